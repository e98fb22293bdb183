//! Mistakes that one could make in the protocol. The simulation has to catch each of them.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    // Of those who write.
    /// A transaction takes numbers of the outbox before it has an id of its own.
    NumbersBeforeTransaction,

    // Of the sequencer.
    /// Gaps are not remembered.
    GapsForgotten,
    /// A gap is given up with the next look.
    GapsGivenUpAtOnce,
    /// A gap is dated by the end of the snapshot in which it was noticed, and not by a transaction that begins afterwards.
    GapsDatedBySnapshot,
    /// A tenant's rows are taken in the order of their transactions' ids.
    OrderOfTransactions,
    /// Tenants have no turns.
    FirstInFirstOut,
    /// Whoever moves lines does not look whether it still leads.
    EpochNotCompared,
    /// When nobody knows whether a move came through, the sequencer goes on with what it remembers.
    MemoryKept,
    /// And does not look whether the log still ends where it thinks.
    MemoryBelieved,
    /// When nobody knows whether a move came through, it is taken for done, and published.
    UnknownIsDone,
    /// Lines are published before their move is committed.
    PublishedBeforeCommit,
    /// A new leader goes on in the epoch of the one before.
    EpochNotRaised,

    // Of the relay.
    /// What was sent is taken for held.
    HeldWhenSent,
    /// After something was not answered, it goes on with what was not sent yet.
    UnansweredNotSentAgain,
    /// The bus is asked once what it holds, and never again.
    BusAskedOnce,
    /// When the stream is another one, it goes on with what was not sent yet.
    GoesOnAfterWipe,
    /// What the bus lost is published again under the same ids.
    AttemptNotCounted,
    /// The bus is not told where a line's place is.
    PlaceNotSaid,
    /// When the bus lost something, it is not noted where it has what is left.
    PlaceNotNoted,
    /// What the bus ends with is taken for ours if the log has such a number.
    NumbersBelieved,
    /// Any leader's note is taken.
    NoteNotFenced,
    /// Whoever notes looks whether it leads, and does not keep others from taking the lead in that moment.
    LeadNotLocked,

    // Of the consumer.
    /// The watermark is moved without a look at where it is.
    WatermarkNotCompared,
    /// After an unknown commit the lane goes on with what it remembers.
    WatermarkKept,
    /// The last number that took effect is taken for the next one.
    KnownOnlyBelow,
    /// A number above the next one is taken for the next one.
    GapSkipped,
    /// Who has not asked yet who leads believes the first who comes.
    UnknownEpochBelieved,
    /// Epochs above the one that is known are believed.
    HigherEpochBelieved,
    /// Epochs below the one that is known are believed.
    LowerEpochBelieved,
    /// Who leads is learnt from messages.
    EpochOfMessages,
    /// Messages are acknowledged before their effects are committed.
    AckBeforeCommit,
    /// What the log does not have yet is acknowledged as if it had taken effect.
    LogNotAsked,
    /// The log is not asked where it stands.
    HeadsNotAsked,
}

impl Mutant {
    pub(super) const ALL: [Self; 33] = [
        Self::NumbersBeforeTransaction,
        Self::GapsForgotten,
        Self::GapsGivenUpAtOnce,
        Self::GapsDatedBySnapshot,
        Self::OrderOfTransactions,
        Self::FirstInFirstOut,
        Self::EpochNotCompared,
        Self::MemoryKept,
        Self::MemoryBelieved,
        Self::UnknownIsDone,
        Self::PublishedBeforeCommit,
        Self::EpochNotRaised,
        Self::HeldWhenSent,
        Self::UnansweredNotSentAgain,
        Self::BusAskedOnce,
        Self::GoesOnAfterWipe,
        Self::AttemptNotCounted,
        Self::PlaceNotSaid,
        Self::PlaceNotNoted,
        Self::NumbersBelieved,
        Self::NoteNotFenced,
        Self::LeadNotLocked,
        Self::WatermarkNotCompared,
        Self::WatermarkKept,
        Self::KnownOnlyBelow,
        Self::GapSkipped,
        Self::UnknownEpochBelieved,
        Self::HigherEpochBelieved,
        Self::LowerEpochBelieved,
        Self::EpochOfMessages,
        Self::AckBeforeCommit,
        Self::LogNotAsked,
        Self::HeadsNotAsked,
    ];
}
