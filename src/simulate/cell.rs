//! What is simulated: kinds of traffic, and what has to come out.

/// One kind of traffic and its target.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) name: String,
    /// Requests a second.
    pub(super) rate: f64,
    /// The share of requests that fail.
    pub(super) failing: f64,
    /// Weights in percent, and for how many seconds.
    pub(super) stages: Vec<(u32, u32)>,
    pub(super) shape: Shape,
    /// The second at which the candidate gets worse, and how.
    pub(super) onset: Option<(u32, Worse)>,
    pub(super) wanted: Wanted,
}

/// What happens besides chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Steady,
    /// The share that fails triples within the hour, and swings by the minute.
    Drift,
    /// Everything fails for a minute.
    Outage,
    /// Everything times out for a minute, 5 s late, and the weight drops in the middle of it.
    TimeOuts,
    /// Nothing happens for ten hours at the second stage.
    Paused,
    /// Failures come by so many at once, from one client.
    Bursts(u64),
    /// Failures come in bursts, of which few are large.
    HeavyBursts,
    /// Visitors are counted; one that sticks to the candidate fails for ever.
    StickyClient,
    /// Each variant stops for 0.2 to 0.5 s a minute.
    Stalls,
}

/// In what the candidate is worse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Worse {
    /// It fails this share.
    Failing(f64),
    /// It fails always.
    Dead,
    /// It never answers; what is waited for is noticed after 5 s.
    Hung,
    /// Lognormal latencies, σ 0.5, by this factor beyond what is tolerated.
    Slower(f64),
}

/// What has to come out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wanted {
    /// Hardly ever rolled back.
    Kept,
    /// Candidate requests until it is noticed: median and 95th percentile.
    Noticed { median: f64, most: Option<f64> },
    /// As `Noticed`, in times of another cell's median.
    NoticedLike { cell: &'static str, times: f64 },
    /// Candidate requests until it is noticed, in 99.9 % of the runs.
    NoticedWithin { requests: f64 },
    /// On schedule, wherever the plan says that every stage is decidable.
    Promoted,
}

/// How long requests that hang are waited for, in s.
pub(super) const HANG_S: f64 = 5.0;
const HOUR: [(u32, u32); 4] = [(1, 900), (5, 900), (25, 900), (50, 900)];
pub(super) const IMMEDIATE: &str = "1 % → 3 % at 5 %, 200 req/s";

pub(super) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut kept = |what: &str, rate: f64, failing: f64, stages: &[(u32, u32)], shape| {
        cells.push(Cell {
            name: format!("A/A {what}, {} %, {rate} req/s", failing * 100.0),
            rate,
            failing,
            stages: stages.to_vec(),
            shape,
            onset: None,
            wanted: Wanted::Kept,
        });
    };
    for failing in [0.001, 0.005, 0.01, 0.05] {
        for rate in [20.0, 200.0, 2_000.0, 20_000.0] {
            kept("steady", rate, failing, &HOUR, Shape::Steady);
        }
    }
    for (name, shape) in [
        ("drift", Shape::Drift),
        ("60 s outage", Shape::Outage),
        ("weight drop in time-outs", Shape::TimeOuts),
        ("paused for 10 h", Shape::Paused),
    ] {
        for (rate, failing) in [(20.0, 0.001), (200.0, 0.01), (2_000.0, 0.001)] {
            kept(name, rate, failing, &HOUR, shape);
        }
    }
    for percent in [50, 99] {
        for failing in [0.001, 0.01, 0.05] {
            let name = format!("straight to {percent} %");
            kept(&name, 200.0, failing, &[(percent, 3_600)], Shape::Steady);
        }
        let name = format!("straight to {percent} %, outage");
        kept(&name, 200.0, 0.001, &[(percent, 3_600)], Shape::Outage);
    }
    kept("bursts of 5", 20.0, 0.01, &HOUR, Shape::Bursts(5));
    kept("bursts of 5", 200.0, 0.01, &HOUR, Shape::Bursts(5));
    kept("heavy-tailed bursts", 200.0, 0.01, &HOUR, Shape::HeavyBursts);
    kept("one sticky client failing", 20.0, 0.001, &HOUR, Shape::StickyClient);
    kept("stalls", 200.0, 0.001, &HOUR, Shape::Stalls);

    let mut noticed = |name: &str, percent, onset: u32, failing, worse, shape, wanted| {
        let before = if shape == Shape::Paused { vec![(1, 900)] } else { Vec::new() };
        let mut stages = before;
        stages.push((percent, onset + 3_600));
        cells.push(Cell {
            name: name.to_owned(),
            rate: 200.0,
            failing,
            stages,
            shape,
            onset: Some((onset, worse)),
            wanted,
        });
    };
    let steady = Shape::Steady;
    let three = Worse::Failing(0.03);
    let wanted = Wanted::Noticed { median: 800.0, most: Some(1_800.0) };
    noticed(IMMEDIATE, 5, 60, 0.01, three, steady, wanted);
    let like = Wanted::NoticedLike { cell: IMMEDIATE, times: 2.2 };
    noticed("the same from minute 30", 5, 1_800, 0.01, three, steady, like);
    noticed("the same after a pause of 10 h", 5, 1_800, 0.01, three, Shape::Paused, like);
    for (percent, onset) in [(5, 10), (5, 600), (1, 10), (1, 600)] {
        let when = if onset < 60 { "in the warm-up" } else { "later" };
        let within = Wanted::NoticedWithin { requests: 10.0 };
        noticed(&format!("dead at {percent} %, {when}"), percent, onset, 0.001, Worse::Dead, steady, within);
    }
    let hung = Wanted::NoticedWithin { requests: 10.0 + 10.0 * HANG_S };
    noticed("hung at 5 %", 5, 600, 0.001, Worse::Hung, steady, hung);
    let slower = Wanted::Noticed { median: 1_800.0, most: None };
    noticed("p99 20 % beyond tolerance at 5 %", 5, 60, 0.001, Worse::Slower(1.2), steady, slower);
    for (rate, failing) in [(5.0, 0.01), (20.0, 0.01), (20.0, 0.03), (200.0, 0.001), (200.0, 0.01)] {
        cells.push(Cell {
            name: format!("promoted on schedule, {} %, {rate} req/s", failing * 100.0),
            rate,
            failing,
            stages: HOUR.to_vec(),
            shape: Shape::Steady,
            onset: None,
            wanted: Wanted::Promoted,
        });
    }
    cells
}
