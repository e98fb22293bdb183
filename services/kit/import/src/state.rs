//! Where an import stands, and what can be done with it there.
use rapport_kernel::Error;
use rapport_proto::imports::v1 as pb;
use serde::Serialize;

/// Where an import stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum State {
    /// Created; waits for its file.
    Waiting,
    /// The file is there; waits for a dry run or a start.
    Ready,
    /// Rows are being checked; nothing is written.
    Checking,
    /// Rows were checked.
    Checked,
    /// Rows are being written.
    Running,
    /// Every row was written or is listed as an issue.
    Done,
    /// Stopped by someone; rows already written stay until undone.
    Cancelled,
    /// Could not go on.
    Failed,
    /// What it wrote is being taken back.
    Undoing,
    /// What it wrote was taken back.
    Undone,
}

/// What was last worked on; says of a failed import what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Phase {
    /// Nothing yet.
    None,
    /// The dry run.
    Check,
    /// The run.
    Run,
    /// The undo.
    Undo,
}

/// What people do with an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Update,
    Upload,
    DryRun,
    Start,
    Cancel,
    Undo,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Waiting,
        Self::Ready,
        Self::Checking,
        Self::Checked,
        Self::Running,
        Self::Done,
        Self::Cancelled,
        Self::Failed,
        Self::Undoing,
        Self::Undone,
    ];

    /// The name in tables and filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Checking => "checking",
            Self::Checked => "checked",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }

    /// What is worked on in this state.
    pub(crate) const fn work(self) -> Option<Phase> {
        match self {
            Self::Checking => Some(Phase::Check),
            Self::Running => Some(Phase::Run),
            Self::Undoing => Some(Phase::Undo),
            _ => None,
        }
    }
}

impl From<State> for pb::ImportState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Ready => Self::Ready,
            State::Checking => Self::Checking,
            State::Checked => Self::Checked,
            State::Running => Self::Running,
            State::Done => Self::Done,
            State::Cancelled => Self::Cancelled,
            State::Failed => Self::Failed,
            State::Undoing => Self::Undoing,
            State::Undone => Self::Undone,
        }
    }
}

impl Action {
    /// # Errors
    /// `Rule` when this cannot be done with an import in this state; the text says what can.
    pub(crate) fn allow(self, state: State, phase: Phase) -> Result<(), Error> {
        let rule = |reason, message: &str| Err(Error::rule(reason, message));
        match (state, phase, self) {
            // What was never written can be prepared anew; a dry run that failed wrote nothing.
            (State::Waiting, _, Self::Update | Self::Upload)
            | (State::Ready | State::Checked, _, Self::Update | Self::Upload | Self::DryRun | Self::Start)
            | (
                State::Failed,
                Phase::None | Phase::Check,
                Self::Update | Self::Upload | Self::DryRun | Self::Start,
            )
            | (State::Checking | State::Running, _, Self::Cancel)
            | (State::Failed, Phase::Run, Self::Start | Self::Undo)
            | (State::Failed, Phase::Undo, Self::Undo)
            | (State::Done | State::Cancelled, _, Self::Undo) => Ok(()),

            (State::Waiting, _, Self::DryRun | Self::Start) => {
                rule("IMPORT_WAITING", "the import has no file yet; upload one first")
            }
            (State::Checking | State::Running, _, _) => rule(
                "IMPORT_RUNNING",
                "the import is being worked on; wait until it is done, or cancel it first",
            ),
            (State::Undoing, _, _) => {
                rule("IMPORT_UNDOING", "the import is being undone; wait until it is over")
            }
            (State::Undone, _, _) => {
                rule("IMPORT_UNDONE", "the import was undone; bring the file in again as another import")
            }
            (_, _, Self::Cancel) => rule("IMPORT_NOT_RUNNING", "the import is not being worked on"),
            (
                State::Waiting | State::Ready | State::Checked | State::Failed,
                Phase::None | Phase::Check,
                Self::Undo,
            ) => rule("IMPORT_NOT_STARTED", "the import has written nothing yet"),
            (State::Waiting | State::Ready | State::Checked, _, Self::Undo) => {
                rule("IMPORT_NOT_STARTED", "the import has written nothing yet")
            }
            (State::Failed, Phase::Undo, _) => {
                rule("IMPORT_UNDOING", "the import's undo has begun and failed; undo it again, to its end")
            }
            (State::Failed, _, _) => {
                rule("IMPORT_STARTED", "rows were written already; start it again to go on, or undo it")
            }
            (State::Cancelled, _, _) => rule(
                "IMPORT_CANCELLED",
                "the import was cancelled; undo it, or bring the file in again as another import",
            ),
            (State::Done, _, _) => {
                rule("IMPORT_DONE", "the import is done; bring other rows in as another import")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 6] =
        [Action::Update, Action::Upload, Action::DryRun, Action::Start, Action::Cancel, Action::Undo];

    fn allowed(state: State, phase: Phase) -> Vec<Action> {
        ACTIONS.into_iter().filter(|action| action.allow(state, phase).is_ok()).collect()
    }

    #[test]
    fn each_state_allows_what_makes_sense_there() {
        use Action::{Cancel, DryRun, Start, Undo, Update, Upload};
        let prepared = vec![Update, Upload, DryRun, Start];
        for (state, phase, expected) in [
            (State::Waiting, Phase::None, vec![Update, Upload]),
            (State::Ready, Phase::None, prepared.clone()),
            (State::Checking, Phase::Check, vec![Cancel]),
            (State::Checked, Phase::Check, prepared.clone()),
            (State::Running, Phase::Run, vec![Cancel]),
            (State::Done, Phase::Run, vec![Undo]),
            (State::Cancelled, Phase::Run, vec![Undo]),
            (State::Failed, Phase::Check, prepared),
            (State::Failed, Phase::Run, vec![Start, Undo]),
            (State::Failed, Phase::Undo, vec![Undo]),
            (State::Undoing, Phase::Undo, vec![]),
            (State::Undone, Phase::Undo, vec![]),
        ] {
            assert_eq!(allowed(state, phase), expected, "{state:?} {phase:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_state_and_what_to_do() {
        let refused = |action: Action, state, phase| action.allow(state, phase).unwrap_err();
        let running = refused(Action::Start, State::Running, Phase::Run);
        assert_eq!(running.reason(), "IMPORT_RUNNING");
        assert!(running.to_string().contains("cancel it first"));
        assert_eq!(refused(Action::DryRun, State::Waiting, Phase::None).reason(), "IMPORT_WAITING");
        assert_eq!(refused(Action::Start, State::Done, Phase::Run).reason(), "IMPORT_DONE");
        assert_eq!(refused(Action::Undo, State::Ready, Phase::None).reason(), "IMPORT_NOT_STARTED");
        assert_eq!(refused(Action::Cancel, State::Ready, Phase::None).reason(), "IMPORT_NOT_RUNNING");
        assert_eq!(refused(Action::Update, State::Failed, Phase::Run).reason(), "IMPORT_STARTED");
        assert_eq!(refused(Action::Start, State::Failed, Phase::Undo).reason(), "IMPORT_UNDOING");
        assert_eq!(refused(Action::Undo, State::Undone, Phase::Undo).reason(), "IMPORT_UNDONE");
        for state in State::ALL {
            for phase in [Phase::None, Phase::Check, Phase::Run, Phase::Undo] {
                for action in ACTIONS {
                    if let Err(error) = action.allow(state, phase) {
                        assert!(
                            error.reason().starts_with("IMPORT_"),
                            "{state:?} {phase:?} {action:?}: {error:?}"
                        );
                    }
                }
            }
        }
    }
}
