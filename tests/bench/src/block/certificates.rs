//! An authority, and a server and a client that it vouches for, laid out as QEMU, nbdkit and libnbd want them.

use std::path::Path;

use anyhow::Result;

use super::command::{command, output, text};

/// Makes `ca-cert.pem`, `server-*.pem` and `client-*.pem` in `folder`.
pub fn make(folder: &Path) -> Result<()> {
    let path = |name: &str| folder.join(name).display().to_string();
    let (ca_key, ca) = (path("ca-key.pem"), path("ca-cert.pem"));
    let new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes"];
    let mut authority = command(&new);
    authority.args(["-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", &ca_key]);
    output(authority.args(["-out", &ca]))?;
    for (name, extension) in
        [("server", "subjectAltName=DNS:localhost"), ("client", "extendedKeyUsage=clientAuth")]
    {
        let (key, cert) = (path(&format!("{name}-key.pem")), path(&format!("{name}-cert.pem")));
        let (request, extensions) = (path("request"), folder.join("extensions"));
        std::fs::write(&extensions, extension)?;
        let mut ask = command(&new);
        output(ask.args(["-subj", "/CN=localhost", "-keyout", &key, "-out", &request]))?;
        let mut sign = command(&["openssl", "x509", "-req", "-days", "2", "-CAcreateserial"]);
        sign.args(["-in", &request, "-out", &cert, "-extfile", text(&extensions)]);
        output(sign.args(["-CA", &ca, "-CAkey", &ca_key]))?;
    }
    Ok(())
}
