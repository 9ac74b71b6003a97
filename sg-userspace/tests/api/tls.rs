//! TLS: a private CA, a certificate that is exchanged under open connections, and
//! what is no TLS.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use sg_userspace::testbed::Daemon;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use super::client::{key, parsed, post, raw, signed};
use crate::world::{Way, World, bin, can_run, eventually};

/// A certificate of a CA for 127.0.0.1, where the daemon looks for it.
fn issue(dir: &Path, ca: &CertifiedIssuer<'_, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "192.0.2.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "sgd");
    let certificate = params.signed_by(&key, ca).unwrap();
    std::fs::write(dir.join("api.crt"), certificate.pem()).unwrap();
    std::fs::write(dir.join("api.key"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(dir.join("api.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "an authority of our own");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn configure(daemon: &Daemon<'_>) {
    daemon.configure("api.listen = \"127.0.0.1:8080\"").unwrap();
    for (name, file) in [("certificate", "api.crt"), ("private_key", "api.key")] {
        daemon.configure(&format!("api.{name} = {:?}", daemon.dir().join(file))).unwrap();
    }
}

/// Gives a daemon that is not started yet a certificate; returns the file of its CA.
pub fn protect(daemon: &Daemon<'_>) -> PathBuf {
    let ca = authority();
    issue(daemon.dir(), &ca);
    configure(daemon);
    let file = daemon.dir().join("ca.crt");
    std::fs::write(&file, ca.pem()).unwrap();
    file
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A client that has not said anything yet.
pub fn client(ca: &Path, name: &str) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// A connection that is through with its handshake, or was cut before.
pub fn try_connect(daemon: &Daemon<'_>, ca: &Path) -> std::io::Result<Stream> {
    let stream = daemon.enter(|| Ok(TcpStream::connect("127.0.0.1:8080")?)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut tls = StreamOwned::new(client(ca, "127.0.0.1"), stream);
    tls.conn.complete_io(&mut tls.sock)?;
    Ok(tls)
}

pub fn connect(daemon: &Daemon<'_>, ca: &Path) -> Stream {
    try_connect(daemon, ca).unwrap()
}

fn shown(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn the_certificate_is_exchanged_and_no_call_cut() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let mut daemon = Daemon::new(&world.router, bin()).unwrap();
    let ca = authority();
    issue(daemon.dir(), &ca);
    configure(&daemon);
    let file = daemon.dir().join("ca.crt");
    std::fs::write(&file, ca.pem()).unwrap();
    // A key that everybody can read is none.
    let secret = daemon.dir().join("api.key");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let e = daemon.start().unwrap_err().to_string();
    assert!(e.contains("everybody can read the key"), "{e}");
    let _ = daemon.stop(libc::SIGKILL);
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    daemon.start().unwrap();
    let key = key(&daemon, &[]);

    let mut first = connect(&daemon, &file);
    issue(daemon.dir(), &ca);
    // SAFETY: a process of ours.
    assert_eq!(unsafe { libc::kill(daemon.pid().unwrap() as i32, libc::SIGHUP) }, 0);
    eventually("it was read anew", || daemon.log().contains("was read anew"));
    let second = connect(&daemon, &file);
    assert!(shown(&first) != shown(&second), "new connections have the new certificate");
    first.write_all(&post(&signed(&key, &[("Action", "DescribeRegions")]))).unwrap();
    let mut said = String::new();
    let _ = first.read_to_string(&mut said);
    assert_eq!(parsed(&said).0, 200, "one that was open goes on");

    // A pair that cannot be used changes nothing.
    std::fs::write(daemon.dir().join("api.crt"), "nothing").unwrap();
    // SAFETY: a process of ours.
    assert_eq!(unsafe { libc::kill(daemon.pid().unwrap() as i32, libc::SIGHUP) }, 0);
    eventually("it is refused", || daemon.log().contains("the old certificate stays in use"));
    assert_eq!(shown(&connect(&daemon, &file)), shown(&second));
    // No answer in plain.
    let said = raw(&daemon, &post(&signed(&key, &[("Action", "DescribeRegions")])));
    assert!(!said.contains("HTTP/1.1"), "{said}");
    assert!(daemon.runs().unwrap());
}

#[test]
fn other_addresses_need_tls() {
    if !can_run() {
        return;
    }
    let world = World::new(Way::Guest);
    let daemon = Daemon::new(&world.router, bin()).unwrap();
    daemon.configure("api.listen = \"10.0.0.1:8080\"").unwrap();
    let (done, said) = daemon.sgd(&["check"]).unwrap();
    assert!(!done && said.contains("other addresses need TLS"), "{said}");
}
