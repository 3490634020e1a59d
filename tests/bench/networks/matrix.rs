//! The links that are tried.

use harness::link::Way;

/// A link, by the settings of both directions: from the guest, and to it.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Its name in the tables.
    pub name: &'static str,
    /// Its settings.
    pub ways: [Way; 2],
    /// Whether it keeps a processor busy.
    pub heavy: bool,
}

const fn cell(name: &'static str, ways: [Way; 2]) -> Cell {
    let heavy = ways[0].rate >= 50_000_000;
    Cell { name, ways, heavy }
}

const fn both(name: &'static str, way: Way) -> Cell {
    cell(name, [way; 2])
}

const K: u64 = 1_000;
const M: u64 = 1_000_000;

/// All of them, from slow to fast. Delays and losses are those of one direction, and so are queues.
pub const CELLS: [Cell; 18] = [
    both(
        "128 kbit/s, 20 ms, queue 1 s",
        Way::new(128 * K).delay(20).queue(1000),
    ),
    both(
        "128 kbit/s, 300 ms, queue 2 s",
        Way::new(128 * K).delay(300).queue(2000),
    ),
    both(
        "256 kbit/s, 50 ms, queue 2 s",
        Way::new(256 * K).delay(50).queue(2000),
    ),
    both(
        "512 kbit/s, 20 ms, queue 1 s",
        Way::new(512 * K).delay(20).queue(1000),
    ),
    cell(
        "512 kbit/s with queue 2 s from the guest, 8 Mbit/s with 200 ms to it, 20 ms",
        [
            Way::new(512 * K).delay(20).queue(2000),
            Way::new(8 * M).delay(20).queue(200),
        ],
    ),
    both(
        "1 Mbit/s, 20 ms, queue 1 s",
        Way::new(M).delay(20).queue(1000),
    ),
    both(
        "1 Mbit/s, 300 ms, queue 500 ms, loss 1 %",
        Way::new(M).delay(300).queue(500).loss(0.01),
    ),
    both(
        "2 Mbit/s, 20 ms, queue 200 ms",
        Way::new(2 * M).delay(20).queue(200),
    ),
    both(
        "2 Mbit/s, 50 ms, queue 200 ms, loss 5 %",
        Way::new(2 * M).delay(50).queue(200).loss(0.05),
    ),
    both(
        "4 Mbit/s, 20 ms, queue 100 ms",
        Way::new(4 * M).delay(20).queue(100),
    ),
    both(
        "4 Mbit/s, 20 ms, queue 2 s",
        Way::new(4 * M).delay(20).queue(2000),
    ),
    both(
        "4 Mbit/s, 25 ms, queue 200 ms, loss 10 %",
        Way::new(4 * M).delay(25).queue(200).loss(0.1),
    ),
    both("10 Mbit/s, 0 ms, queue 50 ms", Way::new(10 * M).queue(50)),
    both(
        "10 Mbit/s, 50 ms, queue 100 ms, 5 % overtake by 20 ms",
        Way::new(10 * M).delay(50).reorder(0.05, 20),
    ),
    both(
        "10 Mbit/s, 600 ms, queue 200 ms, loss 0.1 %",
        Way::new(10 * M).delay(600).queue(200).loss(0.001),
    ),
    both(
        "100 Mbit/s, 10 ms, queue 50 ms, loss 1 %",
        Way::new(100 * M).delay(10).queue(50).loss(0.01),
    ),
    both(
        "100 Mbit/s, 50 ms, queue 200 ms",
        Way::new(100 * M).delay(50).queue(200),
    ),
    both("1 Gbit/s, 0 ms, queue 50 ms", Way::new(1000 * M).queue(50)),
];

/// Those of a quick look.
pub const QUICK: [usize; 5] = [0, 3, 5, 9, 11];
