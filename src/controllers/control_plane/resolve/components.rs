//! API server, kube-proxy and CoreDNS.

use crate::controllers::fields::{self, Checker};
use crate::crd;
use crate::domain::{ApiServer, CoreDns, KubeProxy};

/// Checks the API server's additions.
pub fn api_server(checker: &mut Checker, given: Option<&crd::ApiServer>) -> ApiServer {
    let Some(given) = given else {
        return ApiServer::default();
    };
    let component = crd::Component {
        extra_args: given.extra_args.clone(),
        extra_envs: given.extra_envs.clone(),
        extra_volumes: given.extra_volumes.clone(),
    };
    ApiServer {
        component: fields::component(checker, "spec.apiServer", Some(&component)),
        cert_sans: fields::lowercase_sans(
            checker,
            "spec.apiServer.certSANs",
            given.cert_sans.as_ref(),
        ),
    }
}

/// Checks kube-proxy.
pub fn kube_proxy(checker: &mut Checker, given: Option<&crd::KubeProxy>) -> KubeProxy {
    let given = given.cloned().unwrap_or_default();
    KubeProxy {
        disabled: checker.or_default("spec.kubeProxy.disabled", given.disabled, false),
        config: fields::free_form(
            checker,
            "spec.kubeProxy.config",
            "kubeproxy.config.k8s.io/v1alpha1",
            "KubeProxyConfiguration",
            given.config.as_ref(),
        ),
    }
}

/// Checks CoreDNS.
pub fn core_dns(checker: &mut Checker, given: Option<&crd::CoreDns>) -> CoreDns {
    let given = given.cloned().unwrap_or_default();
    if let Some(repository) = &given.image_repository {
        fields::image_repository(checker, "spec.coreDNS.imageRepository", repository);
    }
    if let Some(tag) = &given.image_tag {
        fields::image_tag(checker, "spec.coreDNS.imageTag", tag);
    }
    CoreDns {
        disabled: checker.or_default("spec.coreDNS.disabled", given.disabled, false),
        image_repository: given.image_repository,
        image_tag: given.image_tag,
    }
}
