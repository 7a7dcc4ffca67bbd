use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A group whose requests are told by hand; time goes on by itself.
struct Scene {
    watch: Watch,
    settings: EjectionSettings,
    now: Instant,
    /// By endpoint, then by thread.
    seen: Vec<Vec<Seen>>,
    is_ejected: Vec<bool>,
}

fn scene(endpoints: usize) -> Scene {
    Scene {
        watch: Watch::default(),
        settings: EjectionSettings::default(),
        now: crate::clock::now(),
        seen: vec![vec![Seen::default(); 2]; endpoints],
        is_ejected: vec![false; endpoints],
    }
}

impl Scene {
    fn requests(&mut self, endpoint: usize, thread: usize, outcomes: &str) {
        for outcome in outcomes.chars() {
            let seen = &mut self.seen[endpoint][thread];
            let has_failed = outcome == '-';
            seen.attempts += 1;
            seen.failures += u64::from(has_failed);
            seen.run = if has_failed { seen.run + 1 } else { 0 };
        }
    }

    fn rate(&mut self, endpoint: usize, attempts: u64, failures: u64) {
        let seen = &mut self.seen[endpoint][0];
        (seen.attempts, seen.failures, seen.run) = (seen.attempts + attempts, seen.failures + failures, 0);
    }

    /// What a look finds; everybody whose pause is over comes back.
    fn look(&mut self) -> Found {
        let looks: Vec<_> = (0u32..)
            .zip(&self.seen)
            .zip(&self.is_ejected)
            .map(|((id, seen), is_ejected)| Look {
                id,
                seen,
                is_ejected: *is_ejected,
                is_in_use: !is_ejected,
            })
            .collect();
        let found = self.watch.look(self.now, Some(&self.settings), &looks);
        for id in &found.back {
            self.is_ejected[*id as usize] = false;
            self.watch.came_back(*id, self.now);
        }
        found
    }

    fn suspects(&mut self) -> Vec<u32> {
        self.look().suspects.into_iter().map(|(id, _)| id).collect()
    }

    fn eject(&mut self, id: u32) -> Duration {
        self.is_ejected[id as usize] = true;
        self.watch.ejected(id, Cause::Row(5), self.now, &self.settings) - self.now
    }
}

#[test]
fn a_row_of_failures_on_one_thread_makes_suspect_once() {
    let mut scene = scene(2);
    scene.requests(0, 0, "++----");
    scene.requests(0, 1, "----");
    assert_eq!(scene.suspects(), [0; 0], "four on each of two threads are no row of five");
    scene.requests(0, 0, "-");
    assert_eq!(scene.look().suspects, [(0, Cause::Row(5))]);
    assert_eq!(scene.suspects(), [0; 0], "a row on a thread that is idle says nothing of now");
    scene.requests(0, 1, "+");
    assert_eq!(scene.suspects(), [0; 0]);
    scene.requests(0, 0, "-");
    assert_eq!(scene.suspects(), [0], "it goes on");
}

#[test]
fn after_its_pause_an_endpoint_is_back_and_begins_anew() {
    let mut scene = scene(2);
    scene.requests(1, 0, "-----");
    assert_eq!(scene.suspects(), [1]);
    assert_eq!(scene.eject(1), 30 * SECOND);
    scene.now += 29 * SECOND;
    assert_eq!(scene.look(), Found::default());
    assert!(scene.watch.ejection(1).is_some());
    scene.now += SECOND;
    assert_eq!(scene.look().back, [1]);
    assert!(scene.watch.ejection(1).is_none());
    scene.requests(1, 0, "----");
    assert_eq!(scene.suspects(), [0; 0], "what was before its pause counts no more");
    scene.requests(1, 0, "-");
    assert_eq!(scene.suspects(), [1]);
    assert_eq!(scene.eject(1), 60 * SECOND);
    assert_eq!(scene.watch.ejections(1), 2);
}

#[test]
fn pauses_grow_up_to_a_bound_and_are_forgotten_in_time() {
    let mut scene = scene(2);
    let mut ejected = |calm: Duration| {
        scene.look();
        let pause = scene.eject(0);
        scene.now += pause;
        assert_eq!(scene.look().back, [0]);
        scene.now += calm;
        pause.as_secs()
    };
    let pauses: Vec<_> = (0..12).map(|_| ejected(SECOND)).collect();
    assert_eq!(pauses, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    let mut ejected = |calm| (ejected(SECOND), ejected(calm)).1;
    ejected(9 * 30 * SECOND);
    assert_eq!(ejected(100 * 30 * SECOND), 210, "14 times, 9 forgotten, and then twice");
    assert_eq!(ejected(SECOND), 60, "all was forgotten");
}

#[test]
fn whoever_the_table_has_back_is_no_longer_ejected() {
    let mut scene = scene(2);
    scene.look();
    scene.eject(0);
    scene.is_ejected[0] = false;
    assert_eq!(scene.look().relieved, [0]);
    assert_eq!(scene.look(), Found::default(), "it is told once");
    scene.is_ejected[1] = true;
    assert_eq!(scene.look().back, [1], "nobody knows why it is out");
}

#[test]
fn without_ejection_whoever_is_out_comes_back() {
    let mut scene = scene(2);
    scene.look();
    scene.eject(0);
    let looks = [Look { id: 0, seen: &scene.seen[0], is_ejected: true, is_in_use: false }];
    assert_eq!(scene.watch.look(scene.now, None, &looks).back, [0]);
}

#[test]
fn a_success_rate_that_stands_out_makes_suspect() {
    #[track_caller]
    fn check(why: &str, rates: &[(u64, u64)], expected: &[u32]) {
        let mut scene = scene(rates.len());
        scene.look();
        for (endpoint, (attempts, failures)) in rates.iter().enumerate() {
            scene.rate(endpoint, *attempts, *failures);
        }
        scene.now += 9 * SECOND;
        assert_eq!(scene.suspects(), [0; 0], "{why}: too early");
        scene.now += SECOND;
        assert_eq!(scene.suspects(), expected, "{why}");
        scene.now += 10 * SECOND;
        assert_eq!(scene.suspects(), [0; 0], "{why}: each interval counts once");
    }
    let well = (200, 0);
    check("one fails a third", &[well, (200, 66), well, well, well], &[1]);
    check("all fail alike", &[(200, 66), (200, 60), (200, 70), (200, 64), (200, 71)], &[]);
    check("one failure in a hundred is chance", &[well, (100, 1), well, well, well], &[]);
    check("four are too few", &[well, (200, 66), well, well], &[]);
    check("four had enough requests", &[well, (200, 66), well, well, (99, 0)], &[]);
    check("the bad one had too few requests", &[well, (99, 99), well, well, well, well], &[]);
    check(
        "of two far off the worse comes first",
        &[well, (200, 170), well, well, (200, 190), well, well, well, well, well, well],
        &[4, 1],
    );
    check("nobody has requests", &[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0)], &[]);
}

#[test]
fn a_cause_is_a_sentence_with_its_numbers() {
    assert_eq!(Cause::Row(5).to_string(), "5 failures in a row");
    let outlier = Cause::Outlier { rate: 0.67, mean: 0.934, limit: 0.683 };
    assert_eq!(outlier.to_string(), "67.0 % successes, its peers 93.4 %; below 68.3 % stands out");
}

fn share(percent: u32) -> MaxEjected {
    MaxEjected::Share(Weight::from_percent(percent).unwrap())
}

#[test]
fn what_is_out_for_any_reason_leaves_less_room() {
    #[track_caller]
    fn check(group: &str, max: MaxEjected, expected: bool) {
        assert_eq!(has_room(&places(group), 0, max), expected, "{group} {max:?}");
    }
    check("+", share(50), false);
    check("++", share(50), true);
    check("+++", share(33), false);
    check("+++", share(34), true);
    check("+e++", share(50), true);
    check("+u++", share(50), true);
    check("+eu+", share(50), false);
    check("+e", share(99), false);
    check("+ee+++", share(50), true);
    check("+d", share(50), false);
    check("+dd+", share(50), true);
    check("+uuu", share(99), false);
    check("uuu+", share(99), true);
    check("e++", share(99), false);
    check("d++", share(99), false);
    check("+", MaxEjected::All, true);
    check("+ee", MaxEjected::All, true);
    assert!(!has_room(&[], 0, MaxEjected::All));
}

fn places(group: &str) -> Vec<Place> {
    let place =
        |letter| Place { is_healthy: letter != 'u', is_ejected: letter == 'e', is_draining: letter == 'd' };
    group.chars().map(place).collect()
}

proptest! {
    #[test]
    fn an_ejection_never_empties_a_group_and_never_exceeds_its_share(
        mut group in prop::collection::vec("[+eud]", 1..12),
        events in prop::collection::vec((0usize..12, "[+eud]"), 0..60),
        percent in 1u32..100,
    ) {
        for (at, what) in events {
            let at = at % group.len();
            if what != "e" {
                group[at] = what;
                continue;
            }
            let places = places(&group.concat());
            if !has_room(&places, at, share(percent)) {
                continue;
            }
            group[at] = "e".to_owned();
            let after = super::tests::places(&group.concat());
            let of_group = after.iter().filter(|place| !place.is_draining).count();
            let out = after.iter().filter(|place| !place.is_draining && !place.is_in_use()).count();
            prop_assert!(after.iter().any(|place| place.is_in_use()), "{:?}", group);
            prop_assert!(out * 100 <= of_group * percent as usize, "{:?}", group);
        }
    }

    #[test]
    fn no_pause_is_longer_than_the_bound_or_shorter_than_the_first(calms in prop::collection::vec(0u64..2_000, 1..30)) {
        let mut scene = scene(1);
        for calm in calms {
            scene.look();
            let pause = scene.eject(0);
            prop_assert!((30 * SECOND..=300 * SECOND).contains(&pause));
            scene.now += pause;
            prop_assert_eq!(scene.look().back, vec![0]);
            scene.now += Duration::from_secs(calm);
        }
    }

    #[test]
    fn no_counts_are_too_odd_to_be_looked_at(
        looks in prop::collection::vec(prop::collection::vec((0u64..300, 0u64..400, 0u64..9), 6), 1..6),
    ) {
        let mut scene = scene(6);
        for counts in looks {
            for (endpoint, (attempts, failures, run)) in counts.into_iter().enumerate() {
                scene.seen[endpoint] = vec![Seen { in_flight: 0, attempts, failures, run }];
            }
            scene.now += 10 * SECOND;
            for (_, cause) in scene.look().suspects {
                if let Cause::Outlier { rate, mean, limit } = cause {
                    prop_assert!(rate < limit && limit <= mean);
                }
            }
        }
    }
}
