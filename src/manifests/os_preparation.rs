//! Files that prepare an operating system for the kubelet. The drop-in is always there; the rest
//! only with `machineConfig.osPreparation`, because images for Kubernetes bring it.

/// The drop-in of the Kubernetes packages. In `/etc` it takes the place of a packaged one of the
/// same name and never collides with the package manager.
pub(super) const DROP_IN_PATH: &str = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";

/// Hands the files that kubeadm writes to the kubelet; the last file is the administrator's.
pub(super) const DROP_IN: &str = r#"[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/sysconfig/kubelet
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"#;

/// The same for a kubelet without an API server: it gets no kubeconfig.
pub(super) const STANDALONE_DROP_IN: &str = r#"[Service]
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/sysconfig/kubelet
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"#;

/// The unit of the Kubernetes packages.
const KUBELET_UNIT: &str = "[Unit]
Description=kubelet: The Kubernetes Node Agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=10

[Install]
WantedBy=multi-user.target
";

const MODULES: &str = "overlay\nbr_netfilter\n";

/// What the files depend on.
pub(super) struct Prepared<'a> {
    pub cri_socket: &'a str,
    /// The sandbox image that kubeadm names, so that it is not pulled twice.
    pub pause_image: String,
    /// The kubelet's cgroup driver is systemd.
    pub systemd_cgroups: bool,
    pub forward_ipv6: bool,
}

/// Path and content of every file of `machineConfig.osPreparation`.
pub(super) fn files(prepared: &Prepared<'_>) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("/etc/modules-load.d/kubernetes.conf", MODULES.to_owned()),
        ("/etc/sysctl.d/99-kubernetes.conf", sysctls(prepared)),
        (
            "/etc/systemd/system/kubelet.service",
            KUBELET_UNIT.to_owned(),
        ),
    ];
    if prepared.cri_socket.ends_with("/containerd/containerd.sock") {
        files.push(("/etc/containerd/config.toml", containerd_config(prepared)));
    }
    files
}

/// What kubeadm's preflight and the container runtimes' guides ask for.
fn sysctls(prepared: &Prepared<'_>) -> String {
    let mut text = "net.bridge.bridge-nf-call-iptables = 1\n\
                    net.bridge.bridge-nf-call-ip6tables = 1\n\
                    net.ipv4.ip_forward = 1\n"
        .to_owned();
    if prepared.forward_ipv6 {
        text.push_str("net.ipv6.conf.all.forwarding = 1\n");
    }
    text
}

/// Settings of containerd 2: the sandbox image, and the kubelet's cgroup driver.
fn containerd_config(prepared: &Prepared<'_>) -> String {
    let (pause, systemd) = (&prepared.pause_image, prepared.systemd_cgroups);
    format!(
        "version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = {systemd}
"
    )
}
