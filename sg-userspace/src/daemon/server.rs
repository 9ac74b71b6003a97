//! `sgd` itself: one thread, one writer; socket, network, signals and timers
//! are its inputs. Only the kernel's counters are read on another thread, for metrics, and
//! the log of flows is written on one.

use std::{
    ffi::CString,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest, unix::AsyncFd},
    net::{TcpListener, UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{RwLock, mpsc, oneshot},
};

use super::{
    backups, capabilities,
    config::{self, Config},
    control::{Control, Look},
    log,
    metrics::{
        Metrics,
        listen::{self, Scrapes},
        render::Kernel,
        timed::Timed,
    },
    network::Network,
    notify::notify,
    protocol::{self, Action, Reply},
    store::embedded::Embedded,
    wait::Waiters,
    watch::{Asked, serve::serve as serve_watcher},
};
use crate::{
    api::{auth::Fresh, endpoint::Endpoint, keys::Keys, refusals::Refusals, sources::Sources, tls::Tls},
    dataplane::{attach, events, pins::Root},
    document::MAX_DOCUMENT,
};

/// Bytes of one request: a document, escaped.
const MAX_REQUEST: u64 = 4 * MAX_DOCUMENT as u64;
/// Seconds between looks at flows that expired, and at the network in case word of a change was lost.
const PERIOD: Duration = Duration::from_secs(30);
/// How long requests that have begun may take to their answer when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Security groups for this host: the daemon.
#[derive(Debug, Parser)]
#[command(
    name = "sgd",
    version,
    after_help = "Examples:
  sgd --config /etc/sg/sgd.toml
  sgd check --config /etc/sg/sgd.toml
  sgd --print-config > /etc/sg/sgd.toml
  sgd --detach                          take all protection off"
)]
struct Arguments {
    /// Configuration file; without one /etc/sg/sgd.toml if it is there, else the defaults
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take all protection off this host, and end; the policy stays stored
    #[arg(long)]
    detach: bool,
    /// Print an annotated configuration file
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the configuration and say what is wrong with it
    Check,
}

/// The whole of `sgd`.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error!("{e:#}");
            ExitCode::from(1)
        }
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.print_config {
        print!("{}", config::EXAMPLE);
        return Ok(());
    }
    let config = Config::read(arguments.config.as_deref())?;
    if let Some(Command::Check) = arguments.command {
        if let Some(group) = &config.socket_group {
            group_id(group)?;
        }
        config.failsafe.warnings().iter().for_each(|line| println!("warning: {line}"));
        println!("the configuration is good");
        return Ok(());
    }
    log::set(config.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if arguments.detach {
        return runtime.block_on(detach(&config));
    }
    runtime.block_on(serve(config))
}

/// Whether a daemon listens on a socket, and goes on to: one that has just been told to end
/// (`pkill sgd; sgd --detach`) takes a moment, and then hangs up.
async fn runs(socket: &Path) -> bool {
    for _ in 0..10 {
        let Ok(mut stream) = UnixStream::connect(socket).await else { return false };
        if tokio::time::timeout(FAREWELL + FAREWELL, stream.read(&mut [0])).await.is_err() {
            break;
        }
    }
    true
}

async fn detach(config: &Config) -> Result<()> {
    if runs(&config.socket).await {
        bail!("a daemon is running on {}: stop it first", config.socket.display());
    }
    let root = Root::open(&config.pin_root)?;
    let machine = Network::watch()?.machine().await.context("cannot list devices")?;
    let mut kept = Vec::new();
    for (pins, device) in root.all().iter().flat_map(|pins| machine.devices.iter().map(move |d| (pins, d))) {
        if let Err(e) = attach::detach(&pins.links, device.index, Some(&device.name)) {
            kept.push(format!("{} is still protected: {e}", device.name));
        }
    }
    if !kept.is_empty() {
        bail!("{}", kept.join("\n"));
    }
    let count = root.remove().context("cannot remove the pins")?;
    println!("no device is protected any more ({count} pins removed); the stored policy is untouched");
    Ok(())
}

fn group_id(name: &str) -> Result<u32> {
    let c_name = CString::new(name)?;
    // SAFETY: a terminated name; the result is read before any other call.
    let group = unsafe { libc::getgrnam(c_name.as_ptr()) };
    if group.is_null() {
        bail!("socket_group = {name:?}: there is no such group; `groupadd --system {name}` makes it");
    }
    // SAFETY: not null, checked above.
    Ok(unsafe { (*group).gr_gid })
}

async fn listen(config: &Config) -> Result<UnixListener> {
    let path = &config.socket;
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if runs(path).await {
        bail!("another daemon is running on {}", path.display());
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    if let Some(group) = &config.socket_group {
        chown(path, None, Some(group_id(group)?))
            .with_context(|| format!("cannot give {} to {group}", path.display()))?;
    }
    Ok(listener)
}

/// How long a caller may take to say what it wants.
const CALLER_PATIENCE: Duration = Duration::from_secs(10);

/// Actions that are taken together, if so many wait: the devices of the network come between.
const TOGETHER: usize = 64;

type Job = (Action, oneshot::Sender<Reply>);

/// Who is at the other end of the socket, for the audit log.
fn peer(stream: &UnixStream) -> String {
    let Ok(peer) = stream.peer_cred() else { return "socket".into() };
    let pid = peer.pid().unwrap_or(0);
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("uid {} pid {pid} {}", peer.uid(), command.trim())
}

async fn converse(stream: UnixStream, jobs: mpsc::Sender<(String, Job)>, watches: mpsc::Sender<Asked>) -> Result<()> {
    let peer = peer(&stream);
    let (read, mut write) = stream.into_split();
    let mut said = String::new();
    let mut reader = BufReader::new(read.take(MAX_REQUEST));
    tokio::time::timeout(CALLER_PATIENCE, reader.read_line(&mut said)).await.context("it said nothing")??;
    let reply = match serde_json::from_str::<Action>(&said) {
        Ok(Action::Watch(what)) => return serve_watcher(reader, write, what, peer, watches).await,
        Ok(mut action) => {
            // What follows the line has a bound of its own.
            reader.get_mut().set_limit(backups::MOST);
            match backups::receive(&mut reader, &mut action).await? {
                Err(refused) => refused,
                Ok(()) => {
                    let (sender, receiver) = oneshot::channel();
                    jobs.send((peer, (action, sender))).await?;
                    receiver.await?
                }
            }
        }
        Err(_) if said.len() as u64 >= MAX_REQUEST => {
            let message = format!("a request of more than {MAX_REQUEST} bytes is not taken; nothing was changed");
            Reply::Refused { message }
        }
        Err(e) => Reply::Refused { message: format!("{} ({}): {e}", protocol::NOT_KNOWN, env!("CARGO_PKG_VERSION")) },
    };
    backups::send(&mut write, reply).await
}

/// Prints the kernel program's debug lines, ten times a second.
async fn debug_lines(mut lines: aya_log::EbpfLogger<&'static dyn ::log::Log>) {
    let mut timer = tokio::time::interval(Duration::from_millis(100));
    loop {
        timer.tick().await;
        lines.flush();
    }
}

/// Links of a thousand devices are held open: as many files as the system allows.
fn more_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a writable struct, then a readable one.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            // Without it the links of the last devices are pinned, but not held.
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

async fn serve(config: Config) -> Result<()> {
    let missing = capabilities::missing();
    if !missing.is_empty() {
        bail!("sgd lacks {}: run it as root, or give it with AmbientCapabilities= in its unit", missing.join(", "));
    }
    more_files();
    let listener = listen(&config).await?;
    let socket = config.socket.clone();
    let store = Embedded::open(&config.state_dir)?;
    let mut network = Network::watch().context("cannot watch the network")?;
    let machine = network.machine().await.context("cannot list devices")?;
    let keys = config.keys_file();
    let mut keys = Keys::open(&keys).with_context(|| format!("cannot use {}", keys.display()))?;
    if let Some(dir) = std::env::var_os("CREDENTIALS_DIRECTORY") {
        keys = keys.with_credential(Path::new(&dir))?;
    }
    let keys = Arc::new(Mutex::new(keys));
    let api = match config.api.address().map_err(anyhow::Error::msg)? {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("cannot listen on {address} (api.listen)"))?)
        }
    };
    let tls = match (&config.api.certificate, &config.api.private_key) {
        (Some(certificate), Some(key)) if api.is_some() => Some(Arc::new(Tls::open(certificate, key)?)),
        _ => None,
    };
    let (rate, sources) = (config.api.rate, Sources::new(config.api.connections_per_address));
    let scraped = match config.metrics.address().map_err(anyhow::Error::msg)? {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("cannot listen on {address} (metrics.listen)"))?)
        }
    };
    let most_rules = config.metrics.rules;
    let metrics = Arc::new(Metrics::new()?);
    let store = Box::new(Timed::new(store, metrics.clone()));
    let mut control = Control::start(config, store, machine, keys.clone(), metrics.clone())?;
    // Whoever asks for lines gets the logger of that moment.
    log::bridge();
    if let Some(lines) = control.debug_lines() {
        tokio::spawn(debug_lines(lines));
    }
    let (sender, mut jobs) = mpsc::channel::<(String, Job)>(TOGETHER);
    let refusals = Arc::new(Mutex::new(Refusals::new(Instant::now())));
    let open = Arc::new(RwLock::new(()));
    let (asks, mut asked) = mpsc::channel::<listen::Asked>(1);
    let (watches, mut watching) = mpsc::channel::<Asked>(TOGETHER);
    let ring = control.ring().context("cannot read the kernel's events")?;
    // SAFETY: the ring owns its descriptor, which stays open and the same for as long as it lives.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = ring.context("cannot wait for the kernel's events")?;
    if let Some(listener) = scraped {
        log::info!("metrics are at http://{}/metrics", listener.local_addr()?);
        let kernel = Kernel::open(control.maps()).context("cannot open the kernel's counters")?;
        tokio::spawn(Scrapes::new(metrics.clone(), kernel, most_rules, asks.clone()).serve(listener));
    }
    let api = api.map(|listener| -> Result<_> {
        log::info!("the control API listens on {}", listener.local_addr()?);
        let fresh = Arc::new(Mutex::new(Fresh::restored(&control.state().replay)));
        let (refusals, open, jobs) = (refusals.clone(), open.clone(), sender.clone());
        let endpoint = Endpoint { keys, fresh, rate, sources, refusals, open, metrics: metrics.clone(), jobs };
        Ok(tokio::spawn(endpoint.serve(listener, tls.clone())))
    });
    let api = api.transpose()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut timer = tokio::time::interval(PERIOD);
    timer.tick().await;
    // A flood of new flows fills the filter of flows within seconds.
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What came while the first ones were bound is bound, too, before anybody hears of it.
    while control.look(network.machine().await.context("cannot list devices")?, Look::Changes) {}
    control.check();
    let mut waiters = Waiters::default();
    let mut summary = control.summary();
    log::info!("ready on {}: {summary}", socket.display());
    notify(&format!("READY=1\nSTATUS={summary}"));
    loop {
        let deadline = waiters.next();
        let patience = async {
            match deadline {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // New devices first: until they are bound, they are open.
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match tls.as_ref().map(|tls| tls.reload()) {
                None => log::info!("nothing to read anew: the API has no certificate"),
                Some(Ok(())) => log::info!("the certificate of the API was read anew"),
                Some(Err(e)) => log::error!("{e}; the old certificate stays in use"),
            },
            Some(heard) = network.changes.recv() => match network.machine().await {
                Ok(machine) => {
                    if control.look(machine, Look::Changes) {
                        log::info!("followed a change of the network within {} us", heard.elapsed().as_micros());
                    }
                }
                Err(e) => {
                    metrics.read_failed();
                    log::error!("cannot list devices: {e}");
                }
            },
            ready = ring.readable_mut() => {
                let mut ready = ready?;
                let events = ready.get_inner_mut().read();
                // What comes after that makes it ready again.
                if events.len() < events::AT_ONCE {
                    ready.clear_ready();
                }
                control.hear(&events);
                // Nothing that the rest of this looks at has changed.
                continue;
            }
            Some(ask) = watching.recv() => {
                // What came before it has come before it.
                let events = ring.get_mut().read();
                control.hear(&events);
                control.watching(ask);
            }
            // Once a second at most, and of no cost.
            Some(ask) = asked.recv() => {
                let _ = ask.send(control.picture());
            }
            Some(job) = jobs.recv() => {
                let (mut actions, mut sources, mut callers) = (Vec::new(), Vec::new(), Vec::new());
                let mut next = Some(job);
                while let Some((source, (action, reply))) = next {
                    if let Action::Wait { seconds, .. } = action {
                        waiters.add(action, source, seconds, reply);
                    } else {
                        actions.push(action);
                        sources.push(source);
                        callers.push(reply);
                    }
                    next = if actions.len() < TOGETHER { jobs.try_recv().ok() } else { None };
                }
                for (caller, reply) in callers.into_iter().zip(control.act_all(&actions, &sources)) {
                    // Nobody may be waiting any more; the action is done all the same.
                    let _ = caller.send(reply);
                }
            }
            () = patience => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (jobs, watches) = (sender.clone(), watches.clone());
                    tokio::spawn(async move {
                        if let Err(e) = converse(stream, jobs, watches).await {
                            log::warning!("a caller went away: {e}");
                        }
                    });
                }
                Err(e) => log::warning!("cannot accept a caller: {e}"),
            },
            _ = second.tick() => {
                control.end_observations();
                control.end_trial();
                control.tidy();
                control.check();
                control.listen();
                control.compare_tables();
            }
            _ = timer.tick() => {
                control.sweep();
                if let Ok(machine) = network.machine().await {
                    let _ = control.look(machine, Look::Changes);
                }
                control.retry();
            }
        }
        control.note_refusals(&refusals, false);
        waiters.answer(&mut control);
        let now = control.summary();
        if now != summary {
            notify(&format!("STATUS={now}"));
            summary = now;
        }
    }
    control.keep_pinned();
    control.keep_accounts();
    control.hear(&ring.get_mut().read());
    control.end_flow_log();
    notify("STOPPING=1");
    // What was heard is not done any more: whoever asked is told so, not cut off.
    api.iter().for_each(tokio::task::JoinHandle::abort);
    drop(jobs);
    let _ = tokio::time::timeout(FAREWELL, open.write()).await;
    control.note_refusals(&refusals, true);
    // Links and maps are pinned: the protection stays.
    let _ = std::fs::remove_file(&socket);
    let trial = control.on_trial().map(|t| format!(", but what is on trial, which is taken back at {}", t.until));
    let but = trial.unwrap_or_default();
    log::info!("ended; what was in force stays in force{but} (`sgd --detach` takes it off)");
    Ok(())
}
