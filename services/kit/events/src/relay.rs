//! Publishing the log on the bus, in order.
//!
//! PostgreSQL holds the truth and the bus is filled from it. The relay remembers up to which number the bus has said that it
//! holds everything, and with which of the bus's own numbers that ended. Whenever the connection was made anew, and each
//! minute, it looks whether that is still so. If the bus lost something (its disk, its last seconds, all of it) the relay
//! goes back to what it still has, or to the beginning of what it should have, and publishes again; whoever had it already
//! knows by the numbers.
mod drive;

use sqlx::FromRow;

pub(crate) use drive::relay;

/// How far the bus has come, as it is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub(crate) struct Note {
    /// Everything up to this number is on the bus.
    pub(crate) number: i64,
    /// Where the bus has the last of that; 0 when this stream has nothing of it.
    pub(crate) stream_sequence: i64,
    /// When the stream was made.
    pub(crate) stream_created: String,
    /// Grows with every time that lines are sent again.
    pub(crate) attempt: i64,
}

/// What the bus says of a stream: when it was made, and which of the bus's own numbers it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) created: String,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// What is to be looked at, to know whether a stream still holds what was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing: there is no reason to doubt it.
    Nothing,
    /// Whether it has the line that was noted here. If not, it lost that, and what it ends with has to be looked at.
    At(u64),
    /// What it ends with: it lost what was noted.
    End,
    /// Nothing: it is another stream, and what it should hold is to be published from the beginning.
    Another,
}

/// How far the relay has come: no I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What the bus holds for sure.
    pub(crate) note: Note,
    /// Everything up to this number was sent.
    pub(crate) sent: i64,
    /// What the stream ends with when it has taken what was sent: the bus takes a line only there. So it holds the log in its
    /// order, and whatever it loses from its end, what is left tells up to where it holds everything.
    pub(crate) end: u64,
}

impl Progress {
    /// One that goes on from what was noted.
    pub(crate) const fn new(note: Note) -> Self {
        Self { sent: note.number, note, end: 0 }
    }

    /// Another line was sent.
    pub(crate) const fn sent(&mut self, number: i64) {
        self.sent = number;
        self.end += 1;
    }

    /// The bus says that it holds this line, hence all before it: answers come in the order of sending. Between two lines there
    /// may be numbers whose days were dropped.
    pub(crate) const fn holds(&mut self, number: i64, sequence: u64) {
        if number > self.note.number {
            (self.note.number, self.note.stream_sequence) = (number, sequence.cast_signed());
        }
    }

    /// Something was not answered, or refused, so nobody knows whether the bus holds it: everything after what it holds for
    /// sure is sent again, as another attempt. So the bus does not take it for a repetition, which it might refuse for its place.
    pub(crate) const fn unsure(&mut self) {
        if self.sent > self.note.number {
            self.note.attempt += 1;
        }
        self.sent = self.note.number;
    }

    /// What is to be looked at, to know whether this stream still holds what was noted. What is sent next comes after what
    /// the stream ends with now; while something is under way it comes after that, or not at all.
    pub(crate) fn check(&mut self, stream: &Extent) -> Check {
        if self.sent == self.note.number {
            self.end = stream.last;
        }
        let noted = self.note.stream_sequence.cast_unsigned();
        if stream.created != self.note.stream_created {
            Check::Another
        } else if noted == 0 || (noted < stream.first && noted <= stream.last) {
            // Nothing was published yet, or it is so long ago that the stream let go of it.
            Check::Nothing
        } else if noted <= stream.last {
            Check::At(noted)
        } else {
            Check::End
        }
    }

    /// The bus does not hold what was noted, but everything up to `number`, the last of it here: what comes after that is sent
    /// again, as another attempt unless this stream is the first one.
    ///
    /// What it goes back to may be lost in its turn, before anything was sent again: so it is noted where that is.
    pub(crate) fn goes_back(&mut self, number: i64, sequence: u64, stream: Extent) {
        let lost = !self.note.stream_created.is_empty();
        let (stream_sequence, attempt) = (sequence.cast_signed(), self.note.attempt + i64::from(lost));
        let note = Note { number, stream_sequence, stream_created: stream.created, attempt };
        *self = Self { sent: number, note, end: stream.last };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(number: i64, stream_sequence: i64) -> Note {
        Note { number, stream_sequence, stream_created: "then".into(), attempt: 0 }
    }

    #[test]
    fn what_was_not_answered_is_sent_again_and_dropped_days_hold_nothing_up() {
        let mut progress = Progress::new(note(4, 40));
        for number in [5, 6, 7] {
            progress.sent(number);
        }
        progress.holds(5, 41);
        progress.unsure();
        progress.unsure();
        assert_eq!((&progress.note, progress.sent), (&Note { attempt: 1, ..note(5, 41) }, 5));
        // 6 to 20 were dropped meanwhile.
        progress.sent(21);
        progress.holds(21, 42);
        progress.holds(3, 7);
        assert_eq!((&progress.note, progress.sent), (&Note { attempt: 1, ..note(21, 42) }, 21));
    }

    #[test]
    fn each_line_is_sent_to_the_place_after_the_one_before() {
        let mut progress = Progress::new(note(5, 41));
        let extent = |last| Extent { created: "then".into(), first: 1, last };
        assert_eq!(progress.check(&extent(41)), Check::At(41));
        progress.sent(6);
        progress.sent(7);
        assert_eq!(progress.end, 43);
        // 6 was lost, and so 7 was refused; or both are there, and nobody said so.
        progress.unsure();
        for last in [41, 43] {
            progress.check(&extent(last));
            progress.sent(6);
            assert_eq!(progress.end, last + 1);
            progress.check(&extent(last));
            assert_eq!(progress.end, last + 1, "it is under way");
            progress.unsure();
        }
        progress.goes_back(3, 39, extent(40));
        assert_eq!(progress.end, 40);
    }

    #[test]
    fn a_stream_is_asked_for_what_was_noted() {
        let mut progress = Progress::new(note(5, 41));
        let extent = |first, last| Extent { created: "then".into(), first, last };
        for (first, last, check) in [
            (1, 50, Check::At(41)),
            (41, 41, Check::At(41)),
            (1, 40, Check::End),
            (1, 0, Check::End),
            // What it held for its time it has let go of.
            (42, 50, Check::Nothing),
        ] {
            assert_eq!(progress.check(&extent(first, last)), check, "{first} to {last}");
        }
        let another = Extent { created: "later".into(), ..extent(1, 50) };
        assert_eq!(progress.check(&another), Check::Another);
        assert_eq!(Progress::new(note(0, 0)).check(&extent(1, 0)), Check::Nothing);
    }

    #[test]
    fn a_stream_that_loses_its_tail_twice_is_asked_twice() {
        let mut progress = Progress::new(note(5, 41));
        let extent = |last| Extent { created: "then".into(), first: 1, last };
        assert_eq!(progress.check(&extent(39)), Check::End);
        progress.goes_back(3, 39, extent(39));
        assert_eq!(progress.check(&extent(39)), Check::At(39));
        assert_eq!(progress.check(&extent(37)), Check::End);
    }

    #[test]
    fn what_a_stream_lost_is_another_attempt() {
        let mut progress = Progress::new(Note::default());
        let made = |created: &str| Extent { created: created.into(), first: 1, last: 0 };
        progress.goes_back(0, 0, made("then"));
        assert_eq!(progress.note.attempt, 0, "nothing was lost before there was a stream");
        progress.sent(1);
        progress.holds(1, 1);
        progress.goes_back(0, 0, made("later"));
        let note = Note { number: 0, stream_sequence: 0, stream_created: "later".into(), attempt: 1 };
        assert_eq!((progress.note, progress.sent), (note, 0));
    }
}
