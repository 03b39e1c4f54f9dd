//! How the admin API asks the running gateway: commands with their replies, and the views that come back.

mod views;

pub use views::*;

use crate::types::CallId;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Where the answer to a command goes. The asker may be gone: ignore a failed send.
pub type Reply<T> = oneshot::Sender<T>;

/// Commands that wait while the signalling shard is busy; more than a few means it is stuck.
const QUEUE: usize = 64;
/// Longest wait for an answer before the API says 503: an order above a shard's worst turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// One question or order to the signalling shard.
#[derive(Debug)]
pub enum ControlCommand {
    /// All live calls, oldest first.
    Calls {
        reply: Reply<Vec<CallView>>,
    },
    Call {
        id: CallId,
        reply: Reply<Option<CallView>>,
    },
    /// The signalling of a live or recent call, where it is still kept.
    Trace {
        id: CallId,
        reply: Reply<Option<Traced>>,
    },
    /// Ends a call with [`EndCause::AdminHangup`](crate::types::EndCause::AdminHangup); answers with its last view.
    Hangup {
        id: CallId,
        reply: Reply<Option<CallView>>,
    },
    /// All trunks in the order of the configuration.
    Trunks {
        reply: Reply<Vec<TrunkView>>,
    },
    /// Answers with the trunk as it is after the action; `None` if there is no such trunk.
    Trunk {
        name: String,
        action: TrunkAction,
        reply: Reply<Option<TrunkView>>,
    },
    /// All contacts of app users, sorted by user.
    Registrations {
        reply: Reply<Vec<RegistrationView>>,
    },
    /// All users of the file and the database, sorted by name.
    Users {
        reply: Reply<Vec<UserView>>,
    },
    /// Users of the database have changed: take them up before answering.
    UsersChanged {
        reply: Reply<Result<(), String>>,
    },
    /// What a call would do, without making it. `Err` says what is wrong with the question.
    Route {
        query: RouteQuery,
        reply: Reply<Result<RouteView, RouteQueryError>>,
    },
    /// Reads the configuration again and takes it up as a whole, or not at all.
    Reload {
        reply: Reply<ReloadReport>,
    },
    /// Starts (`on`) or ends a drain: new calls get 503, running ones are served.
    Drain {
        on: bool,
        reply: Reply<DrainView>,
    },
    /// Whether the gateway can take calls, and why not.
    Readiness {
        reply: Reply<Readiness>,
    },
}

/// Why the gateway gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("the gateway is stopping")]
    Stopped,
    #[error("the gateway did not answer in time")]
    Unresponsive,
}

/// The asking end; cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    commands: mpsc::Sender<ControlCommand>,
    patience: Duration,
}

impl Control {
    /// Both ends of the queue; the receiver belongs to the signalling shard.
    pub fn channel() -> (Control, mpsc::Receiver<ControlCommand>) {
        let (commands, receiver) = mpsc::channel(QUEUE);
        (Control { commands, patience: PATIENCE }, receiver)
    }

    /// The same handle with more time for an answer, for orders that do real work.
    pub fn patient(&self, patience: Duration) -> Control {
        Control { commands: self.commands.clone(), patience }
    }

    /// Sends one command and waits for its answer:
    /// `control.ask(|reply| ControlCommand::Calls { reply }).await`.
    pub async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> ControlCommand) -> Result<T, ControlError> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.commands.send(command(reply)).await.map_err(|_| ControlError::Stopped)?;
            answer.await.map_err(|_| ControlError::Stopped)
        };
        tokio::time::timeout(self.patience, exchange).await.unwrap_or(Err(ControlError::Unresponsive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A handle that gives up at once, and the end that would have to answer.
    fn impatient() -> (Control, mpsc::Receiver<ControlCommand>) {
        let (control, receiver) = Control::channel();
        (Control { patience: Duration::ZERO, ..control }, receiver)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn a_shard_that_does_not_answer_is_given_up() {
        let (control, _receiver) = impatient();
        let answer = run(control.ask(|reply| ControlCommand::Calls { reply }));
        assert_eq!(answer.unwrap_err(), ControlError::Unresponsive);
    }

    #[test]
    fn a_full_queue_does_not_hold_the_asker() {
        let (control, _receiver) = impatient();
        for _ in 0..QUEUE {
            let (reply, _) = oneshot::channel();
            control.commands.try_send(ControlCommand::Calls { reply }).unwrap();
        }
        let answer = run(control.ask(|reply| ControlCommand::Trunks { reply }));
        assert_eq!(answer.unwrap_err(), ControlError::Unresponsive);
    }

    #[test]
    fn a_stopped_gateway_is_told_apart() {
        let (control, receiver) = impatient();
        drop(receiver);
        let answer = run(control.ask(|reply| ControlCommand::Calls { reply }));
        assert_eq!(answer.unwrap_err(), ControlError::Stopped);
    }
}
