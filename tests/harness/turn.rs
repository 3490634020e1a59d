//! Takes turns with what keeps the processors busy: guests, machines, builds.
//!
//! Most tests wait most of the time, so more of them run than there are processors. Those few
//! would make each other's clocks wrong.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// How many tests may be busy at the same time.
const PLACES: usize = 2;

static FREE: Mutex<usize> = Mutex::new(PLACES);
static RETURNED: Condvar = Condvar::new();

thread_local!(static MINE: RefCell<Weak<Turn>> = const { RefCell::new(Weak::new()) });

/// One test's turn; over when the last copy is dropped.
#[derive(Debug)]
pub struct Turn(());

/// Waits for the test's turn. A test that has it already gets a copy: two guests of one test
/// don't wait for each other.
pub fn take() -> Arc<Turn> {
    if let Some(turn) = MINE.with_borrow(Weak::upgrade) {
        return turn;
    }
    sit_down();
    let turn = Arc::new(Turn(()));
    MINE.set(Arc::downgrade(&turn));
    turn
}

/// Lends the place of the test that has this turn to another test while `idle` lasts, which needs
/// no processor. Returns when there is a place again.
pub fn lend(_turn: &Turn, idle: impl FnOnce()) {
    get_up();
    idle();
    sit_down();
}

fn sit_down() {
    let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = RETURNED
        .wait_while(free, |free| *free == 0)
        .unwrap_or_else(PoisonError::into_inner);
    *free -= 1;
}

fn get_up() {
    *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    RETURNED.notify_one();
}

impl Drop for Turn {
    fn drop(&mut self) {
        get_up();
    }
}
