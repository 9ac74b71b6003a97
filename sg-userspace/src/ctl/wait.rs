//! `sgctl wait`.

use std::io::Write;

use anyhow::Result;

use super::{
    Ended,
    args::{Arguments, Output, Wait},
    client, output,
};
use crate::daemon::protocol::{Action, Reply};

pub fn wait(arguments: &Arguments, wait: &Wait) -> Result<Ended> {
    let action = Action::Wait { devices: wait.devices.clone(), seconds: wait.patience };
    let missing = match client::ask(&arguments.socket, &action)? {
        Reply::Waited { missing } => missing,
        other => return client::unexpected(other),
    };
    if arguments.output == Output::Table {
        let mut err = output::stderr();
        for m in &missing {
            writeln!(err, "{} is not protected after {} s: {}", m.device, wait.patience, m.why)?;
        }
    } else {
        output::print(arguments.output, &missing, |_| output::table(&[]))?;
    }
    Ok(if missing.is_empty() { Ended::Done } else { Ended::Refused })
}
