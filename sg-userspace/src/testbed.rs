//! Network namespaces of our own, and traffic between them: for the demo and
//! the tests. Nothing has a name that could be left behind: when the process
//! ends, or the values are dropped, everything is gone.

pub mod call;
mod daemon;

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

pub use daemon::{Daemon, TempDir, with_bpf};

/// How long a probe waits for an answer that may never come.
pub const PATIENCE: Duration = Duration::from_millis(700);

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A network namespace.
#[derive(Debug)]
pub struct Net {
    /// For messages.
    pub name: String,
    fd: OwnedFd,
}

impl Net {
    /// Makes one, with its loopback up.
    ///
    /// # Errors
    /// Not root.
    pub fn new(name: &str) -> Result<Self> {
        let fd = thread::scope(|scope| {
            let made = scope.spawn(|| -> io::Result<OwnedFd> {
                // SAFETY: no memory is passed; only this thread moves.
                check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
                Ok(File::open("/proc/thread-self/ns/net")?.into())
            });
            made.join().map_err(|_| io::Error::other("a thread died"))?
        })
        .context("cannot make a network namespace (root is needed)")?;
        let net = Self { name: name.into(), fd };
        net.ip("link set lo up")?;
        // Nobody else is there; waiting for duplicates would only take time.
        for scope in ["default", "all"] {
            net.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        // What a kernel says twice of its multicast groups when an address has come is
        // over at once (milliseconds), not when a test has begun to count.
        net.sysctl("ipv6/conf/default/mldv2_unsolicited_report_interval", "10")?;
        Ok(net)
    }

    /// Runs something in it, on a thread of its own.
    ///
    /// # Errors
    /// The namespace cannot be entered, or what `f` says.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let fd = self.fd.as_raw_fd();
        thread::scope(|scope| {
            let result = scope.spawn(move || {
                // SAFETY: a namespace descriptor that outlives the thread.
                check(unsafe { libc::setns(fd, libc::CLONE_NEWNET) }).context("cannot enter a network namespace")?;
                f()
            });
            result.join().map_err(|_| anyhow::anyhow!("a thread in {} died", self.name))?
        })
    }

    /// Runs something in it for as long as it likes.
    fn spawn(&self, f: impl FnOnce() + Send + 'static) -> Result<()> {
        let fd = self.fd.try_clone()?;
        thread::spawn(move || {
            // SAFETY: a namespace descriptor of this thread's own.
            if check(unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) }).is_ok() {
                f();
            }
        });
        Ok(())
    }

    /// `ip …` in it.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        self.run(|| {
            let output = Command::new("ip").args(arguments.split_whitespace()).output().context("cannot start ip")?;
            if !output.status.success() {
                bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(())
        })
    }

    /// Sets a sysctl below `/proc/sys/net`.
    ///
    /// # Errors
    /// No such setting.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| std::fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("cannot set {key}")))
    }

    /// A path by which `ip link set … netns` finds it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd())
    }

    /// A veth pair: `here` in this namespace, `there` in the other.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn veth(&self, here: &str, other: &Net, there: &str) -> Result<()> {
        self.ip(&format!("link add {here} type veth peer name {there} netns {}", other.path()))?;
        self.ip(&format!("link set {here} up"))?;
        other.ip(&format!("link set {there} up"))
    }

    /// Gives a device addresses without waiting for duplicate detection.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn address(&self, device: &str, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            self.ip(&format!("addr add {address} dev {device}{nodad}"))?;
        }
        Ok(())
    }

    /// An echo server for TCP, there until the process ends.
    ///
    /// # Errors
    /// The address is taken.
    pub fn tcp_server(&self, port: u16) -> Result<()> {
        let listener = self.run(|| Ok(TcpListener::bind(("::", port))?))?;
        self.spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                thread::spawn(move || {
                    let mut buffer = [0; 65_536];
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        if stream.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                });
            }
        })
    }

    /// An echo server for UDP, there until the process ends. `address` is the
    /// one it answers from.
    ///
    /// # Errors
    /// The address is taken.
    pub fn udp_server(&self, address: SocketAddr) -> Result<()> {
        let socket = self.run(|| Ok(UdpSocket::bind(address)?))?;
        self.spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                // A reply that our own rules drop is an error here, and none of ours.
                let _ = socket.send_to(&buffer[..n], from);
            }
        })
    }

    /// Whether a TCP connection opens and echoes.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn tcp(&self, to: SocketAddr) -> Result<bool> {
        self.run(|| Ok(connect(to).is_ok_and(|mut s| echoes(&mut s, b"hello"))))
    }

    /// An open connection.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        self.run(|| Ok(connect(to)?))
    }

    /// Whether a datagram of `size` bytes comes back.
    ///
    /// # Errors
    /// No socket.
    pub fn udp(&self, to: SocketAddr, size: usize) -> Result<bool> {
        self.run(|| {
            let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            if socket.send_to(&vec![7; size], to).is_err() {
                return Ok(false);
            }
            let mut buffer = vec![0; size + 1];
            Ok(socket.recv_from(&mut buffer).is_ok_and(|(n, _)| n == size))
        })
    }

    /// Whether an echo request is answered.
    ///
    /// # Errors
    /// No raw socket.
    pub fn ping(&self, to: IpAddr) -> Result<bool> {
        self.run(|| ping(to))
    }
}

/// Opens a connection, or gives up.
///
/// # Errors
/// Nobody answers.
pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether what is sent comes back.
pub fn echoes(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut back = vec![0; bytes.len()];
    stream.write_all(bytes).is_ok() && stream.read_exact(&mut back).is_ok() && back == bytes
}

fn ping(to: IpAddr) -> Result<bool> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8, 0),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129),
    };
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    check(fd).context("cannot open a raw socket")?;
    // SAFETY: a descriptor nobody else owns; the calls below are those that
    // any socket of the family takes.
    let socket = unsafe { UdpSocket::from_raw_fd(fd) };
    let id = (std::process::id() as u16 ^ thread_number()).to_be_bytes();
    let mut packet = vec![request, 0, 0, 0, id[0], id[1], 0, 1];
    packet.extend([0x55; 24]);
    if to.is_ipv4() {
        let sum: u32 = packet.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    if socket.send_to(&packet, SocketAddr::new(to, 0)).is_err() {
        return Ok(false);
    }
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 2048];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let Ok((n, _)) = socket.recv_from(&mut buffer) else { return Ok(false) };
        // IPv4 raw sockets see the IP header.
        let skip = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        if n >= skip + 8 && buffer[skip] == reply && buffer[skip + 4..skip + 6] == id {
            return Ok(true);
        }
    }
}

/// Tells apart pings of one process.
fn thread_number() -> u16 {
    // SAFETY: no memory is passed.
    unsafe { libc::syscall(libc::SYS_gettid) as u16 }
}
