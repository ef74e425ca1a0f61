//! The image: its build steps, run here without a container, and what the Dockerfile promises.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const MAX_BYTES: u64 = 20_000_000;
/// Longest wait for anything: mostly for machines that are busy otherwise.
const LIMIT: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The instructions of the Dockerfile, continued lines joined.
fn instructions() -> Vec<String> {
    read("Dockerfile")
        .replace("\\\n", " ")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// What is copied from the build context, as paths of the project.
fn copied() -> Vec<String> {
    instructions()
        .iter()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|arguments| !arguments.starts_with("--from"))
        .flat_map(|arguments| {
            let mut words: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
            words.pop();
            words
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
}

/// Runs the `RUN` steps that are ours, on exactly the files that the Dockerfile copies.
#[test]
fn the_build_steps_make_a_small_image_that_resolves_names() {
    // Kept between runs at the same place, so that only the first one builds all dependencies.
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (context, out) = (place.join("image-context"), place.join("image-root"));
    for folder in [&context, &out] {
        if folder.exists() {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
    for path in copied() {
        copy(&root().join(&path), &context.join(&path));
    }
    let steps: Vec<_> = instructions()
        .into_iter()
        .filter_map(|line| line.strip_prefix("RUN build/").map(str::to_owned))
        .collect();
    assert_eq!(steps, ["release.sh /out"]);
    let built = Command::new(context.join("build/release.sh"))
        .arg(&out)
        .env("CARGO_TARGET_DIR", place.join("image"))
        .status()
        .unwrap();
    assert!(built.success(), "build/release.sh: {built}");

    let binary = out.join("usr/local/bin/seedbed");
    let bytes = std::fs::metadata(&binary).unwrap().len();
    assert!(bytes <= MAX_BYTES, "the release binary has {bytes} bytes");
    let content = std::fs::read(&binary).unwrap();
    let place = context.to_str().unwrap().as_bytes();
    assert!(
        !content.windows(place.len()).any(|window| window == place),
        "the binary knows where it was built"
    );
    let output = in_image(&out).arg("--version").output();
    let output = output.expect("this test needs root, to enter the image with chroot");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "needs root and a whole C library: {error}"
    );
    let version = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        version.trim(),
        concat!("seedbed ", env!("CARGO_PKG_VERSION"))
    );
    resolves_names(&out);
}

/// The program in its image, as the user of the image.
fn in_image(image: &Path) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg("--userspec=65532:65532")
        .arg(image)
        .arg("/usr/local/bin/seedbed")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// The operator in the image finds an API server by a name that only DNS knows.
fn resolves_names(image: &Path) {
    let dns = UdpSocket::bind("127.0.0.9:53").expect("port 53 of 127.0.0.9, as root");
    std::thread::spawn(move || answer_dns(&dns));
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://api.seed.example:{}",
        server.local_addr().unwrap().port()
    );
    let kubeconfig = format!(
        "{{apiVersion: v1, kind: Config, current-context: x, users: [],\n\
         clusters: [{{name: x, cluster: {{server: \"{url}\"}}}}],\n\
         contexts: [{{name: x, context: {{cluster: x, user: \"\"}}}}]}}\n"
    );
    std::fs::write(image.join("etc/kubeconfig"), kubeconfig).unwrap();
    std::fs::write(image.join("etc/resolv.conf"), "nameserver 127.0.0.9\n").unwrap();
    let log = image.join("log");
    let mut operator = in_image(image)
        .env("KUBECONFIG", "/etc/kubeconfig")
        .args(["operator", "--health-address=127.0.0.1:0"])
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    server.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let reached = loop {
        match server.accept() {
            Ok(_) => break true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        if start.elapsed() > LIMIT || operator.try_wait().unwrap().is_some() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = operator.kill();
    operator.wait().unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(reached, "the operator did not find {url}:\n{log}");
}

/// Answers A with 127.0.0.1, and everything else with nothing.
fn answer_dns(socket: &UdpSocket) {
    let mut packet = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut packet) {
        let mut answer = packet[..length].to_vec();
        let name = answer[12..].iter().position(|byte| *byte == 0);
        let Some(end) = name.map(|name| 12 + name + 5).filter(|end| *end <= length) else {
            continue;
        };
        let is_a = answer[end - 4..end] == [0, 1, 0, 1];
        answer.truncate(end);
        answer[2..12].copy_from_slice(&[0x85, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        let _ = socket.send_to(&answer, from);
    }
}

#[test]
fn the_image_is_pinned_and_runs_as_nobody() {
    let instructions = instructions();
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .unwrap()
        .trim_matches('"');
    let stages: Vec<_> = instructions
        .iter()
        .filter_map(|line| line.strip_prefix("FROM "))
        .collect();
    assert_eq!(stages.len(), 2, "one stage builds, the other runs");
    assert!(stages[0].starts_with(&format!("rust:{channel}-slim-bookworm ")));
    assert!(instructions.contains(&"USER 65532:65532".to_owned()));
    let chart = read("charts/seedbed/templates/deployment.yaml");
    assert!(chart.contains("runAsUser: 65532") && chart.contains("runAsGroup: 65532"));
}

/// What `.dockerignore` lets in is what is copied, and it is all there.
#[test]
fn the_build_context_is_what_is_copied() {
    let ignore = read(".dockerignore");
    let let_in: BTreeSet<_> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let copied = copied();
    assert_eq!(let_in, copied.iter().map(String::as_str).collect());
    for path in copied {
        assert!(root().join(&path).exists(), "{path}");
    }
}
