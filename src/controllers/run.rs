//! Starting the controllers and driving them: watches, one reconcile at a time an object, a
//! deadline, and what follows from a failure.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, Controller, Error as ControllerError};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Predicate, WatchStreamExt, predicates, reflector};
use kube::{Api, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::conditions::{Conditions, READY, RECONCILING, Reason, STALLED};
use super::context::Context;
use super::error::{Error, ErrorClass};
use super::turn::{First, Rank, Turn, Turns};
use super::{control_plane, etcd_cluster, names, node_pool, seen};
use crate::crd::{ControlPlane, EtcdCluster, NodePool};
use crate::runtime::backoff::Backoff;

/// Longest time of one reconcile.
const DEADLINE: Duration = Duration::from_secs(60);

/// A kind that has a controller.
trait Reconciled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Name of the kind, for logs and metrics.
    const KIND: &'static str;
    /// Whether something outside the seed has to be undone before an object goes: it is reconciled
    /// while it is being deleted, too.
    const UNDOES: bool = false;

    /// Looks at one object; answers when to look again.
    fn reconcile(
        object: Arc<Self>,
        turn: &mut Turn,
        context: &Context,
    ) -> impl Future<Output = Result<Duration, Error>> + Send;

    /// Adds watches on what these objects own.
    fn with_owned(
        controller: Controller<DeserializeGuard<Self>>,
        _context: &Arc<Context>,
        _namespace: &str,
    ) -> Controller<DeserializeGuard<Self>> {
        controller
    }
}

impl Reconciled for ControlPlane {
    const KIND: &'static str = "ControlPlane";

    async fn reconcile(
        object: Arc<Self>,
        turn: &mut Turn,
        context: &Context,
    ) -> Result<Duration, Error> {
        control_plane::reconcile(object, turn, context).await
    }

    fn with_owned(
        controller: Controller<DeserializeGuard<Self>>,
        context: &Arc<Context>,
        namespace: &str,
    ) -> Controller<DeserializeGuard<Self>> {
        let ours = watcher::Config::default().labels(names::LABEL_CONTROL_PLANE);
        let clusters = Api::<EtcdCluster>::namespaced(context.client.clone(), namespace);
        let secrets = seen::secrets(context, namespace, ours, |seen| &seen.control_planes);
        let store = controller.store();
        controller
            .watches(clusters, watcher::Config::default(), move |cluster| {
                concerned(&cluster, &store)
            })
            .owns_stream(secrets)
    }
}

/// The ControlPlanes that have their state in an EtcdCluster: the one that owns it, or those that
/// refer to it.
fn concerned(
    cluster: &EtcdCluster,
    control_planes: &reflector::Store<DeserializeGuard<ControlPlane>>,
) -> Vec<reflector::ObjectRef<DeserializeGuard<ControlPlane>>> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    if let Some(owner) = etcd_cluster::owner(cluster) {
        return vec![reflector::ObjectRef::new(owner).within(&namespace)];
    }
    let is_concerned = |found: &&Arc<DeserializeGuard<ControlPlane>>| {
        let own = found.name_any();
        let spec = found.0.as_ref().map(|object| &object.spec);
        let state = spec.map_or(Some(own.as_str()), |spec| spec.etcd_cluster(&own));
        found.namespace().as_ref() == Some(&namespace) && state == Some(name.as_str())
    };
    let control_planes = control_planes.state();
    let concerned = control_planes.iter().filter(is_concerned);
    concerned
        .map(|found| reflector::ObjectRef::from_obj(&**found))
        .collect()
}

impl Reconciled for EtcdCluster {
    const KIND: &'static str = "EtcdCluster";

    async fn reconcile(
        object: Arc<Self>,
        turn: &mut Turn,
        context: &Context,
    ) -> Result<Duration, Error> {
        etcd_cluster::reconcile(object, turn, context).await
    }

    /// People and providers say on a machine-config Secret that its machine is lost or shall go.
    fn with_owned(
        controller: Controller<DeserializeGuard<Self>>,
        context: &Arc<Context>,
        namespace: &str,
    ) -> Controller<DeserializeGuard<Self>> {
        let configs = watcher::Config::default().labels(&names::all_machine_configs());
        let configs = seen::secrets(context, namespace, configs, |seen| &seen.stacked);
        let of_cluster = |secret: PartialObjectMeta<Secret>| {
            let name = secret.labels().get(names::LABEL_CONTROL_PLANE)?;
            let namespace = secret.namespace()?;
            Some(reflector::ObjectRef::new(name).within(&namespace))
        };
        let own = watcher::Config::default().labels(names::LABEL_ETCD_CLUSTER);
        let own = seen::secrets(context, namespace, own, |seen| &seen.etcd_clusters);
        controller
            .watches_stream(configs, of_cluster)
            .owns_stream(own)
    }
}

impl Reconciled for NodePool {
    const KIND: &'static str = "NodePool";
    const UNDOES: bool = true;

    async fn reconcile(
        object: Arc<Self>,
        turn: &mut Turn,
        context: &Context,
    ) -> Result<Duration, Error> {
        node_pool::reconcile(object, turn, context).await
    }

    fn with_owned(
        controller: Controller<DeserializeGuard<Self>>,
        context: &Arc<Context>,
        namespace: &str,
    ) -> Controller<DeserializeGuard<Self>> {
        let ours = watcher::Config::default().labels(names::LABEL_NODE_POOL);
        let secrets = seen::secrets(context, namespace, ours, |seen| &seen.node_pools);
        controller.owns_stream(secrets)
    }
}

/// Runs all controllers in these namespaces until `shutdown`, then lets running reconciles end.
///
/// When a controller ends by itself, which it never should, the others are stopped too. Whoever
/// drops this early, as when leadership is lost, has to shut `running` down: kube's controllers
/// panic when the runtime goes away under them.
pub async fn run(
    running: &mut JoinSet<()>,
    context: Arc<Context>,
    namespaces: &[String],
    concurrency: u16,
    shutdown: CancellationToken,
) {
    // A thousand pools may be due together: they take turns of their own, few, and let control
    // planes go first.
    let first = First::default();
    let early = || Turns::new(concurrency, Rank::Before(first.clone()));
    for namespace in namespaces {
        let (context, shutdown) = (&context, &shutdown);
        running.spawn(drive::<ControlPlane>(context, namespace, early(), shutdown));
        running.spawn(drive::<EtcdCluster>(context, namespace, early(), shutdown));
        let late = Turns::new(concurrency.div_ceil(4), Rank::After(first.clone()));
        running.spawn(drive::<NodePool>(context, namespace, late, shutdown));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller died");
        }
        if !shutdown.is_cancelled() {
            tracing::error!("a controller ended by itself; stopping the others");
            shutdown.cancel();
        }
    }
}

/// What one controller needs beside the object.
struct Driver<K: Reconciled> {
    context: Arc<Context>,
    objects: reflector::Store<DeserializeGuard<K>>,
    turns: Turns,
    failures: Backoff<reflector::ObjectRef<DeserializeGuard<K>>>,
}

/// One controller: its watches and its loop, until `shutdown`.
fn drive<K: Reconciled>(
    context: &Arc<Context>,
    namespace: &str,
    turns: Turns,
    shutdown: &CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let api = Api::<DeserializeGuard<K>>::namespaced(context.client.clone(), namespace);
    let (reader, writer) = reflector::store();
    let watching = Arc::clone(context);
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .inspect(move |event| noticed::<K>(event.as_ref(), &watching))
        .reflect(writer)
        .applied_objects()
        // Our own writes to the status change nothing that a reconcile would look at; annotations
        // may announce something.
        .predicate_filter(
            predicates::generation.combine(predicates::annotations),
            Default::default(),
        );
    let controller = Controller::for_stream(stream, reader.clone())
        // Not bounded here but by turns.
        .with_config(Config::default().concurrency(0))
        .graceful_shutdown_on(shutdown.clone().cancelled_owned());
    let controller = K::with_owned(controller, context, namespace);
    let driver = Arc::new(Driver::<K> {
        context: Arc::clone(context),
        objects: reader.clone(),
        turns,
        failures: Backoff::default(),
    });
    let running = controller
        .run(in_a_task::<K>, failed::<K>, driver)
        .for_each(|result| {
            if let Err(ControllerError::QueueError(error)) = result {
                tracing::warn!(kind = K::KIND, %error, "a watch failed; it is tried again");
            }
            ready(())
        });
    let shutdown = shutdown.clone();
    async move {
        let mut running = Box::pin(running);
        // kube's controller waits for its first list for ever, also when asked to stop. Until then
        // no reconcile has begun, so that there is none to wait for.
        tokio::select! {
            biased;
            () = &mut running => return,
            _ = reader.wait_until_ready() => {}
            () = shutdown.cancelled() => return,
        }
        running.await;
    }
}

/// Counts failures of the main watch, and forgets what was kept for objects that are gone.
fn noticed<K: Reconciled>(
    event: Result<&Event<DeserializeGuard<K>>, &watcher::Error>,
    context: &Context,
) {
    match event {
        Ok(Event::Delete(gone)) => context.forget(&gone.uid().unwrap_or_default()),
        Ok(_) => {}
        Err(_) => context.metrics.watch_failed(K::KIND),
    }
}

/// The controller polls every running reconcile whenever one of them moves, and all of them on
/// one thread: so each is a task of its own.
async fn in_a_task<K: Reconciled>(
    guarded: Arc<DeserializeGuard<K>>,
    driver: Arc<Driver<K>>,
) -> Result<Action, Error> {
    AbortOnDropHandle::new(tokio::spawn(reconcile(guarded, driver))).await?
}

async fn reconcile<K: Reconciled>(
    guarded: Arc<DeserializeGuard<K>>,
    driver: Arc<Driver<K>>,
) -> Result<Action, Error> {
    let context = &driver.context;
    let mut turn = driver.turns.next().await;
    // It may have changed, or gone, while others had their turns.
    let own = reflector::ObjectRef::from_obj(&*guarded);
    let Some(guarded) = driver.objects.get(&own) else {
        return Ok(Action::await_change());
    };
    if guarded.meta().deletion_timestamp.is_some() && !K::UNDOES {
        // Owner references take everything away; nothing outside the seed has to be undone.
        return Ok(Action::await_change());
    }
    let object = match &guarded.0 {
        Ok(object) => Arc::new(object.clone()),
        Err(invalid) => {
            report_invalid::<K>(&guarded, &invalid.error, context).await?;
            return Ok(Action::await_change());
        }
    };
    let began = context.clock.monotonic();
    // Boxed: those that wait for their turn do not hold the room for all of it.
    let reconciled = Box::pin(K::reconcile(object, &mut turn, context));
    let result = tokio::time::timeout(DEADLINE, reconciled).await;
    context
        .metrics
        .reconciled(K::KIND, context.clock.monotonic().saturating_sub(began));
    let wait = result.unwrap_or(Err(Error::Deadline(DEADLINE)))?;
    driver.failures.reset(&own);
    Ok(Action::requeue(wait))
}

/// What follows from a failed reconcile.
fn failed<K: Reconciled>(
    guarded: Arc<DeserializeGuard<K>>,
    error: &Error,
    driver: Arc<Driver<K>>,
) -> Action {
    let class = error.class();
    driver
        .context
        .metrics
        .reconcile_failed(K::KIND, class.label(), error.label());
    let name = guarded.name_any();
    let namespace = guarded.namespace();
    if class == ErrorClass::Conflict {
        tracing::debug!(kind = K::KIND, namespace, name, %error, "somebody else was faster");
        return Action::requeue(Duration::from_secs(1));
    }
    tracing::warn!(kind = K::KIND, namespace, name, %error, class = class.label(), "reconcile failed");
    Action::requeue(match class {
        ErrorClass::Forbidden => Duration::from_secs(60),
        ErrorClass::Bug => Duration::from_secs(600),
        ErrorClass::Conflict | ErrorClass::Transient => driver
            .failures
            .failed(reflector::ObjectRef::from_obj(&*guarded)),
    })
}

/// Says so on an object that cannot be read. Only the conditions are replaced: the rest of its
/// status, such as a ledger, is not ours to drop unread.
async fn report_invalid<K: Reconciled>(
    guarded: &DeserializeGuard<K>,
    why: &str,
    context: &Context,
) -> Result<(), Error> {
    let resource = ApiResource::erase::<K>(&());
    let namespace = guarded.namespace().unwrap_or_default();
    let api = Api::<DynamicObject>::namespaced_with(context.client.clone(), &namespace, &resource);
    let name = guarded.name_any();
    let stored = api.get_opt(&name).await;
    let stored = stored.map_err(Error::api("reading an object that our types do not fit"))?;
    let Some(stored) = stored else { return Ok(()) };
    let status = &stored.data["status"];
    let before = Vec::<Condition>::deserialize(&status["conditions"]).unwrap_or_default();

    let mut conditions = Conditions::unknown(&[READY, RECONCILING, STALLED]);
    conditions.set(STALLED, true, Reason::InvalidObject, why);
    conditions.set(RECONCILING, false, Reason::Blocked, "");
    conditions.set_ready(&[]);
    let news = conditions.news(&before);
    let generation = stored.metadata.generation;
    let after = conditions.merged(&before, generation, context.clock.now());
    if before != after || status["observedGeneration"] != json!(generation) {
        let body = json!({"status": {"observedGeneration": generation, "conditions": after}});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(body))
            .await
            .map_err(Error::api("saying that an object cannot be read"))?;
    }
    for event in &news {
        context.events.publish(guarded, event).await;
    }
    Ok(())
}
