//! Lines on their way to a file, which a thread of its own writes: a disk that is slow holds
//! up nobody. What does not fit into the queue is lost, and counted.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Lines that are written at once.
const AT_ONCE: usize = 4096;

/// Lines written, and lines lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// In the file.
    pub written: u64,
    /// The file could not be written, or not fast enough.
    pub lost: u64,
}

struct State<L> {
    lines: VecDeque<L>,
    /// What has become of lines since that was last asked.
    done: Written,
    /// Whether the thread is to write what there is, and whether then to end.
    asked: bool,
    closing: bool,
    /// No thread writes any more.
    ended: bool,
}

struct Shared<L> {
    state: Mutex<State<L>>,
    changed: Condvar,
}

impl<L> Shared<L> {
    fn lock(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until told to end.
    fn write(&self, mut sink: impl FnMut(&[L]) -> io::Result<()>) {
        let mut state = self.lock();
        loop {
            let rests = |state: &mut State<L>| !state.asked && !state.closing;
            state = self.changed.wait_while(state, rests).unwrap_or_else(PoisonError::into_inner);
            let count = state.lines.len().min(AT_ONCE);
            state.asked = state.lines.len() > count;
            let closing = state.closing && !state.asked;
            let lines: Vec<L> = state.lines.drain(..count).collect();
            drop(state);
            let written = sink(&lines);
            state = self.lock();
            let of = if written.is_ok() { &mut state.done.written } else { &mut state.done.lost };
            *of += count as u64;
            if closing {
                return;
            }
        }
    }
}

/// A queue, and the thread behind it.
pub struct Queue<L> {
    shared: Arc<Shared<L>>,
    room: usize,
}

impl<L: Send + 'static> Queue<L> {
    /// Begins one with room for so many lines. `sink` writes all that it is given, or nothing;
    /// it is also given nothing, to see whether it could.
    ///
    /// # Errors
    /// There is no thread; then every line is lost.
    pub fn start(room: usize, sink: impl FnMut(&[L]) -> io::Result<()> + Send + 'static) -> (Self, io::Result<()>) {
        let state =
            State { lines: VecDeque::new(), done: Written::default(), asked: false, closing: false, ended: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = shared.clone();
        let write = move || {
            of_thread.write(sink);
            of_thread.lock().ended = true;
            of_thread.changed.notify_all();
        };
        let begun = thread::Builder::new().name("sg-flow-log".into()).spawn(write).map(drop);
        shared.lock().ended = begun.is_err();
        (Self { shared, room }, begun)
    }

    /// Adds a line; false where there is no room, and it is lost.
    pub fn push(&self, line: L) -> bool {
        let mut state = self.shared.lock();
        if state.ended || state.lines.len() >= self.room {
            state.done.lost += 1;
            return false;
        }
        state.lines.push_back(line);
        if state.lines.len() >= AT_ONCE && !state.asked {
            state.asked = true;
            self.shared.changed.notify_all();
        }
        true
    }

    /// Whether there is room for so many lines more. Nobody else adds any.
    pub fn has_room(&self, lines: usize) -> bool {
        let state = self.shared.lock();
        state.ended || state.lines.len() + lines <= self.room
    }

    /// Has what there is written, soon; what has become of lines since the last time.
    pub fn flush(&self) -> Written {
        let mut state = self.shared.lock();
        state.asked = true;
        self.shared.changed.notify_all();
        std::mem::take(&mut state.done)
    }

    /// Has all of it written, and waits until it is, or for so long: what is not written then is lost.
    pub fn close(&self, patience: Duration) -> Written {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        let waits = |state: &mut State<L>| !state.ended;
        let (mut state, _) =
            self.shared.changed.wait_timeout_while(state, patience, waits).unwrap_or_else(PoisonError::into_inner);
        let mut done = std::mem::take(&mut state.done);
        done.lost += state.lines.len() as u64;
        state.lines.clear();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Long enough for whatever happens, and waited for by nothing that goes well.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A queue whose file takes what it is given as often as it may.
    fn held(room: usize) -> (Queue<u32>, mpsc::Sender<io::Result<()>>, mpsc::Receiver<Vec<u32>>) {
        let (allow, allowed) = mpsc::channel::<io::Result<()>>();
        let (taken, takes) = mpsc::channel();
        let sink = move |lines: &[u32]| {
            let _ = taken.send(lines.to_vec());
            // Once nobody holds it any more it takes everything.
            allowed.recv().unwrap_or(Ok(()))
        };
        let (queue, begun) = Queue::start(room, sink);
        begun.unwrap();
        (queue, allow, takes)
    }

    #[test]
    fn a_slow_file_holds_up_nobody_and_what_does_not_fit_is_counted() {
        let (queue, allow, takes) = held(10);
        assert!(queue.push(0));
        queue.flush();
        assert_eq!(takes.recv_timeout(PATIENCE).unwrap(), [0]);
        // It is being written, for ever so long.
        assert!((1..=10).all(|line| queue.push(line)));
        assert!(!queue.has_room(1) && !queue.push(11) && !queue.push(12));
        assert_eq!(queue.flush(), Written { written: 0, lost: 2 });
        drop(allow);
        // What waits is written before it ends.
        assert_eq!(queue.close(PATIENCE), Written { written: 11, lost: 0 });
        assert_eq!(takes.into_iter().flatten().collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        assert!(!queue.push(13), "nobody writes it any more");
        assert_eq!(queue.flush(), Written { written: 0, lost: 1 });
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_more_is_tried() {
        let (queue, allow, takes) = held(10);
        assert!(queue.push(0) && queue.push(1));
        queue.flush();
        allow.send(Err(io::Error::other("full"))).unwrap();
        assert_eq!(takes.recv_timeout(PATIENCE).unwrap(), [0, 1]);
        drop(allow);
        assert!(queue.push(2));
        assert_eq!(queue.close(PATIENCE), Written { written: 1, lost: 2 });
    }

    #[test]
    fn a_file_that_hangs_does_not_hold_up_the_end() {
        let (queue, _allow, takes) = held(10);
        assert!(queue.push(0));
        queue.flush();
        takes.recv_timeout(PATIENCE).unwrap();
        assert!(queue.push(1));
        assert_eq!(queue.close(Duration::from_millis(1)), Written { written: 0, lost: 1 });
    }

    #[test]
    fn many_lines_are_written_before_anybody_asks() {
        let (queue, allow, takes) = held(3 * AT_ONCE);
        drop(allow);
        (0..2 * AT_ONCE as u32).for_each(|line| assert!(queue.push(line)));
        let mut seen = 0;
        while seen < AT_ONCE {
            seen += takes.recv_timeout(PATIENCE).unwrap().len();
        }
        assert_eq!(queue.close(PATIENCE).written, 2 * AT_ONCE as u64);
    }
}
