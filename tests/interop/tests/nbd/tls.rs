//! TLS with other people's clients.

use std::path::Path;

use crate::rig::{Served, Stage, fail, same, succeed};

/// An authority, a server of its and a client of its, and a client of nobody's, as QEMU lays them out.
pub fn certificates(stage: &Stage) {
    let authority = |name: &str| {
        let (key, cert) =
            (stage.path(&format!("{name}-key.pem")), stage.path(&format!("{name}.pem")));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
            "-keyout",
            text(&key),
            "-out",
            text(&cert),
        ]);
    };
    authority("ca");
    authority("stranger");
    for folder in ["server", "client", "intruder"] {
        std::fs::create_dir(stage.path(folder)).unwrap();
        std::fs::copy(stage.path("ca.pem"), stage.path(folder).join("ca-cert.pem")).unwrap();
    }
    certify(stage, "ca", "server", "server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
    certify(stage, "ca", "client", "client", "extendedKeyUsage=clientAuth");
    certify(stage, "stranger", "intruder", "client", "extendedKeyUsage=clientAuth");
}

fn certify(stage: &Stage, authority: &str, folder: &str, name: &str, extension: &str) {
    let folder = stage.path(folder);
    let (key, cert) =
        (folder.join(format!("{name}-key.pem")), folder.join(format!("{name}-cert.pem")));
    let (request, extensions) = (folder.join("request"), folder.join("extensions"));
    std::fs::write(&extensions, extension).unwrap();
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        text(&key),
        "-out",
        text(&request),
    ]);
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        text(&request),
        "-out",
        text(&cert),
        "-extfile",
        text(&extensions),
        "-CA",
        text(&stage.path(&format!("{authority}.pem"))),
        "-CAkey",
        text(&stage.path(&format!("{authority}-key.pem"))),
        "-CAcreateserial",
    ]);
}

fn openssl(arguments: &[&str]) {
    succeed("openssl", arguments);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn serve(stage: &Stage, image: &Path, verify: &str) -> Served {
    let folder = stage.path("server");
    Served::start(stage, image, "", &format!(",tls-creds={}{verify}", folder.display()))
}

fn qemu(stage: &Stage, served: &Served, folder: &str) -> (String, String) {
    let credentials =
        format!("tls-creds-x509,id=tls0,endpoint=client,dir={}", stage.path(folder).display());
    let image = format!(
        "driver=nbd,server.type=unix,server.path={},export=d0,tls-creds=tls0,tls-hostname=localhost",
        served.socket().display()
    );
    (credentials, image)
}

fn libnbd(stage: &Stage, served: &Served, folder: &str) -> String {
    let (socket, folder) = (served.socket().display(), stage.path(folder));
    format!("nbds+unix://localhost/d0?socket={socket}&tls-certificates={}", folder.display())
}

#[test]
fn clients_that_are_known_read_and_write_in_tls() {
    let stage = Stage::new();
    certificates(&stage);
    let (noise, image) = (stage.noise("noise", 8), stage.empty("image", 8));
    let served = serve(&stage, &image, ",tls-verify=on");
    succeed("nbdcopy", &[text(&noise), &libnbd(&stage, &served, "client")]);
    same(&noise, &image);
    let (credentials, remote) = qemu(&stage, &served, "client");
    let back = stage.path("back");
    succeed(
        "qemu-img",
        &["convert", "--object", &credentials, "--image-opts", &remote, "-O", "raw", text(&back)],
    );
    same(&noise, &back);
    assert!(served.end().0);
}

#[test]
fn strangers_and_clients_in_the_clear_are_refused() {
    let stage = Stage::new();
    certificates(&stage);
    let image = stage.noise("image", 1);
    let served = serve(&stage, &image, "");
    fail("nbdinfo", &[&libnbd(&stage, &served, "intruder")]);
    let (credentials, remote) = qemu(&stage, &served, "intruder");
    fail("qemu-img", &["info", "--object", &credentials, "--image-opts", &remote]);
    let said = fail("qemu-img", &["info", "-f", "raw", &served.uri()]);
    assert!(said.contains("TLS"), "{said}");
    succeed("nbdinfo", &[&libnbd(&stage, &served, "client")]);
    assert!(served.end().0);
}

#[test]
fn without_verification_any_client_is_served_in_tls() {
    let stage = Stage::new();
    certificates(&stage);
    let image = stage.noise("image", 1);
    let served = serve(&stage, &image, ",tls-verify=off");
    succeed("nbdinfo", &[&libnbd(&stage, &served, "intruder")]);
    assert!(served.end().0);
}
