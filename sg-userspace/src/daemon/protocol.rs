//! What is said over the socket: one line of JSON each way; to those who watch, one for each event.

mod backup;
mod failsafe;
mod flows;
mod plan;
mod replay;
mod shadow;
mod stats;
mod status;
mod watch;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::{
    backup::{Download, Upload},
    failsafe::FailsafeView,
    flows::{CutView, FlowFilter, FlowLine, FlowVerdict, FlowsAsked, FlowsView, TopLine, TopView, Want},
    plan::{DifferenceLine, Differences, Planned, TrialView},
    replay::{Candidate, Policies},
    shadow::{ShadowCommand, ShadowKind, ShadowView},
    stats::{GroupStats, InterfaceStats, RuleStats, StatsView},
    status::{Conntrack, DeviceStatus, FlowShare, InterfaceView, Missing, ReasonLine, RuleLine, Status, Talker},
    watch::{Missed, Seen, Watch, WatchLine},
};
use super::{documents::Step, history::Head};
use crate::{
    api::{call::Call, keys::KeyView},
    dataplane::engine::OnChange,
    diagnose::{Check, Row},
    document::Problems,
    explain::{Answer, trace::Trace},
    lint::Finding,
};

/// How a refusal begins of what the daemon does not know as a request: its words are
/// those of older daemons, too, so that a newer `sgctl` can say what to do.
pub const NOT_KNOWN: &str = "not a request of this version";

/// A file of a document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// As the user named it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The caller's own connection, which a change must not cut unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// This machine's end.
    pub local: IpAddr,
    /// The caller's end.
    pub remote: IpAddr,
    /// Port here.
    pub local_port: u16,
    /// Port there.
    pub remote_port: u16,
}

/// The public interface of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// What a document would change; with `apply`, change it.
    Document {
        /// Its files.
        files: Vec<File>,
        /// Take over objects of other documents.
        adopt: bool,
        /// Not only plan.
        apply: bool,
        /// Refused when the state has another generation.
        if_generation: Option<u64>,
        /// What becomes of live flows that would be denied.
        on_change: OnChange,
        /// Refused when the change would drop it.
        session: Option<Session>,
        /// Seconds after which it is taken back unless it is confirmed.
        #[serde(default)]
        confirm: Option<u32>,
        /// A plan tells every difference, not only the largest ones.
        #[serde(default)]
        all: bool,
    },
    /// Keep what is on trial.
    Confirm,
    /// How things stand.
    Status,
    /// One device, its merged rules and its counters.
    Interface {
        /// Its name.
        device: String,
    },
    /// A document as it is in force.
    Export {
        /// Its name; the only one when absent.
        document: Option<String>,
    },
    /// Answered when devices are protected.
    Wait {
        /// Their names.
        devices: Vec<String>,
        /// Or after so many seconds.
        seconds: u64,
    },
    /// A call of the control API, by the administrator when it comes this way.
    Call(Box<Call>),
    /// About access keys.
    Key {
        /// What.
        #[serde(flatten)]
        command: KeyCommand,
    },
    /// About generations that are kept.
    Snapshot {
        /// What.
        #[serde(flatten)]
        command: SnapshotCommand,
    },
    /// The state as a backup.
    Backup,
    /// What would change if what was is put back; with `apply`, put it back.
    Restore {
        /// From where.
        source: Source,
        /// The rules of this group only.
        group: Option<String>,
        /// Only those rules of it that it lacks.
        additive: bool,
        /// Not only plan.
        apply: bool,
        /// Refused when the state has another generation.
        if_generation: Option<u64>,
        /// What becomes of live flows that would be denied.
        on_change: OnChange,
        /// Refused when the change would drop it.
        session: Option<Session>,
        /// Seconds after which it is taken back unless it is confirmed.
        #[serde(default)]
        confirm: Option<u32>,
    },
    /// Packets as they are judged: after the reply a [`WatchLine`] each, until the caller closes its side.
    Watch(Box<Watch>),
    /// About a candidate that judges beside the policy in force.
    Shadow {
        /// What.
        #[serde(flatten)]
        command: ShadowCommand,
    },
    /// What is in force, and what would be with a candidate, to judge packets by.
    Policies(Candidate),
    /// What is unwise or needless in what is in force.
    Lint,
    /// Who reaches a device's services.
    Diagnose {
        /// Its name.
        device: String,
        /// Which; the usual ones when empty.
        checks: Vec<Check>,
        /// From where; everywhere when absent.
        source: Option<IpNet>,
    },
    /// Live flows: listed, counted, or cut.
    Flows(Box<FlowsAsked>),
    /// What interfaces, groups and rules have counted.
    Stats {
        /// This device and its rules only.
        device: Option<String>,
        /// This group, its rules and its members only; by id or name.
        group: Option<String>,
        /// Rules that no packet has matched only.
        unused: bool,
    },
    /// Which rule decides flows.
    Explain {
        /// Lines of a flows file.
        flows: String,
        /// With all that was looked at, for the first few.
        #[serde(default)]
        trace: bool,
        /// By the kernel program, over the tables in force.
        #[serde(default)]
        kernel: bool,
    },
}

/// Where a state is that is to be put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A generation that is kept; the one kept last when absent.
    Kept(Option<u64>),
    /// What is on trial, by its generation: it is taken back.
    Trial(u64),
    /// A backup, which follows.
    Backup(Upload),
}

/// About generations that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "snapshot", rename_all = "snake_case")]
pub enum SnapshotCommand {
    /// Keeps the one in force, until it is deleted.
    Create {
        /// What it is called.
        comment: String,
    },
    /// All of them.
    List,
    /// One, as YAML.
    Show {
        /// Its number.
        generation: u64,
    },
    /// Lets one go.
    Delete {
        /// Its number.
        generation: u64,
    },
    /// What is different between two.
    Diff {
        /// The older one's number.
        from: u64,
        /// The newer one's; the one in force when absent.
        to: Option<u64>,
    },
}

/// What became of a generation that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its number.
    pub generation: u64,
    /// Whether somebody had asked for that before: it is as it was, its comment, too.
    pub already: bool,
}

/// About access keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "key", rename_all = "snake_case")]
pub enum KeyCommand {
    /// Makes one.
    Create {
        /// Its account; the default one when absent.
        account: Option<String>,
        /// Whether it may change anything.
        writes: bool,
        /// For people.
        comment: String,
    },
    /// All of them, without their secrets.
    List,
    /// Refuses one, or takes it again.
    Disable {
        /// Its id.
        id: String,
        /// Which.
        disabled: bool,
    },
    /// Deletes one.
    Delete {
        /// Its id.
        id: String,
    },
}

impl From<Problems> for Reply {
    fn from(problems: Problems) -> Self {
        Self::Problems { problems: problems.0.iter().map(ToString::to_string).collect() }
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// Problems of a document; nothing was changed.
    Problems {
        /// As text.
        problems: Vec<String>,
    },
    /// Refused; nothing was changed.
    Refused {
        /// Why, and what to do.
        message: String,
    },
    /// To [`Action::Document`].
    Planned(Box<Planned>),
    /// To [`Action::Status`].
    Status(Box<Status>),
    /// To [`Action::Interface`].
    Interface(Box<InterfaceView>),
    /// To [`Action::Export`] and [`SnapshotCommand::Show`].
    Exported {
        /// YAML.
        text: String,
    },
    /// To [`Action::Backup`]: it follows.
    Backup(Download),
    /// To [`Action::Wait`].
    Waited {
        /// Devices that are not protected; none is what was waited for.
        missing: Vec<Missing>,
    },
    /// To [`Action::Confirm`].
    Confirmed {
        /// Number of the state now.
        generation: u64,
    },
    /// To [`Action::Call`].
    Called {
        /// HTTP status.
        status: u16,
        /// The answer, or the error.
        body: serde_json::Value,
        /// The state after it, when it was a change.
        #[serde(default)]
        generation: Option<u64>,
    },
    /// To [`KeyCommand::Create`]: the one time that the secret is shown.
    NewKey {
        /// Its id.
        id: String,
        /// Its secret.
        secret: String,
    },
    /// To the other key commands: the keys there are now.
    Keys {
        /// Without their secrets.
        keys: Vec<KeyView>,
    },
    /// To [`SnapshotCommand`]: those that are kept now.
    Snapshots {
        /// By their numbers.
        kept: Vec<Head>,
        /// To [`SnapshotCommand::Create`].
        #[serde(default)]
        made: Option<Made>,
    },
    /// To [`SnapshotCommand::Diff`].
    Different {
        /// By object.
        steps: Vec<Step>,
    },
    /// To [`Action::Watch`]: lines follow.
    Watching,
    /// To [`Action::Shadow`]: the candidate, as it is or was.
    Shadow(Box<ShadowView>),
    /// To [`ShadowCommand::Candidate`].
    Candidate {
        /// Its files.
        files: Vec<File>,
        /// As it was started.
        adopt: bool,
    },
    /// To [`Action::Policies`].
    Policies(Box<Policies>),
    /// To [`Action::Lint`].
    Linted {
        /// All of it.
        findings: Vec<Finding>,
    },
    /// To [`Action::Diagnose`].
    Diagnosed {
        /// A row for each service and family.
        rows: Vec<Row>,
    },
    /// To [`Action::Flows`].
    Flows(FlowsView),
    /// To [`Action::Stats`].
    Stats(Box<StatsView>),
    /// To [`Action::Explain`].
    Explained {
        /// Why, for the first few flows that make sense, if that was asked for.
        #[serde(default)]
        traces: Vec<Trace>,
        /// One for each line.
        answers: Vec<Answer>,
        /// Where the kernel program was asked: lines, from 1, of which the policy says something else, and what.
        #[serde(default)]
        differ: Vec<(usize, Answer)>,
    },
}

/// A line of JSON, as it goes over the socket.
///
/// # Errors
/// What cannot be written so: a defect.
pub fn line<T: serde::Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}
