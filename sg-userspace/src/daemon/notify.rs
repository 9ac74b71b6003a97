//! Word to the service manager: sd_notify(3), one datagram.

use std::{
    ffi::OsStr,
    io,
    os::{linux::net::SocketAddrExt, unix::ffi::OsStrExt, unix::net::SocketAddr, unix::net::UnixDatagram},
};

use super::log;

/// Where the service manager listens; `@` stands for the zero byte of an abstract name.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

fn send(name: &OsStr, text: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address(name)?).map(drop)
}

/// Says lines such as `READY=1`; nothing without a service manager.
pub fn notify(text: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|n| !n.is_empty()) else { return };
    if let Err(e) = send(&name, text) {
        log::warning!("cannot tell the service manager {text:?}: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_abstract_names_are_reached() {
        let name = format!("sg-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}").into(),
            ),
        ];
        for (socket, name) in sockets {
            send(&name, "READY=1\nSTATUS=so").unwrap();
            let mut buffer = [0; 64];
            let n = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"READY=1\nSTATUS=so");
        }
        std::fs::remove_file(path).unwrap();
    }
}
