use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::launch::tests::{does, launch, phase};
use crate::launch::{Action, Check, CheckKind, Figures, GoNoGo, Outcome, Rollout, Told};

/// A journal that is written by the second.
struct Journal {
    records: Vec<Record>,
    second: u64,
}

const START: u64 = 1_767_276_000;

impl Journal {
    fn of(launch: Launch) -> Self {
        let mut journal = Self { records: Vec::new(), second: START };
        journal.note(0, Entry::Planned { launch: Arc::new(launch) });
        journal
    }

    fn note(&mut self, after: u64, entry: Entry) -> &mut Self {
        self.second += after;
        let seq = self.records.len() as u64 + 1;
        let at = Timestamp::from_millis(self.second * 1000);
        self.records.push(Record {
            seq,
            at,
            actor: "uid 1000 (ops)".into(),
            claimed: None,
            entry,
            figures: None,
        });
        self
    }

    fn start(&mut self) -> &mut Self {
        let (candidate, holder) = (Variant::Green, "ada@build-7".into());
        self.note(10, Entry::Started { candidate, holder, unmet: Vec::new(), reason: None })
    }

    fn step(&mut self, phase: usize, step: Step, verdict: Verdict, said: &str, took: u64) -> &mut Self {
        let outcome = Outcome { verdict, said: said.to_owned(), took_ms: took * 1000 };
        self.note(0, Entry::Began { phase, step }).note(took, Entry::Ended { phase, step, outcome })
    }

    fn passes(&mut self, phase: usize, took: u64) -> &mut Self {
        for step in [Step::Validate, Step::Execute, Step::Verify] {
            let took = if step == Step::Execute { took } else { 0 };
            self.step(phase, step, Verdict::Passed, "", took);
        }
        self
    }

    fn minute(
        &mut self,
        after: u64,
        span: u64,
        green: (u64, u64),
        down_seconds: u64,
        p95_us: u64,
    ) -> &mut Self {
        let (requests, failures) = green;
        let green = Total { requests, failures };
        let variants = PerVariant { blue: Total { requests: 1000, failures: 1 }, green };
        let p95_us = Some(p95_us);
        self.note(after, Entry::Minute(Minute { span_ms: span * 1000, variants, down_seconds, p95_us }))
    }

    fn report(&self) -> Report {
        Report::of(&self.records, Timestamp::from_millis((self.second + 5) * 1000)).unwrap()
    }
}

fn release() -> Launch {
    let traffic = phase("traffic", Action::Rollout(Rollout::default()), Undo::DisableTraffic);
    let mut launch = launch(vec![does("deploy"), traffic]);
    launch.rollback_within = Some(Duration::from_secs(60));
    launch
}

fn texts(report: &Report) -> Vec<(Kind, &str)> {
    report.incidents.iter().map(|incident| (incident.kind, &*incident.text)).collect()
}

#[test]
fn a_launch_that_went_well_says_so_with_its_numbers() {
    let mut journal = Journal::of(release());
    journal.start().passes(0, 30).passes(1, 20).minute(0, 50, (50, 0), 0, 12_000);
    journal.minute(60, 60, (500, 1), 0, 40_000).minute(60, 60, (900, 0), 0, 20_000);
    journal.note(0, Entry::Finished { state: State::Completed });
    let report = journal.report();
    assert_eq!(
        (report.result, report.took_ms, report.why.as_deref()),
        (State::Completed, Some(170_000), None)
    );
    let of = |requests, failures, rate| Transactions { requests, failures, error_rate: Some(rate) };
    assert_eq!(report.traffic.variants.green, of(1450, 1, 1.0 / 1450.0));
    assert_eq!(report.traffic.all, of(4450, 4, 4.0 / 4450.0));
    let p95 = P95 { worst_minute_us: 40_000, median_minute_us: 20_000, minutes: 3 };
    assert_eq!(report.traffic.p95, Some(p95));
    assert!(report.traffic.zero_downtime && report.traffic.gaps.is_empty() && report.incidents.is_empty());
    assert_eq!(
        report.traffic.sentence,
        "zero downtime: 0 s in which every request failed, 4 failed requests of 4,450"
    );
    assert_eq!(report.time_to_stable.unwrap().took_ms, 20_000);
    assert_eq!(report.phases[0].state, PhaseState::Verified);
    assert_eq!(report.phases[0].steps.len(), 3);
}

#[test]
fn a_gap_in_the_counts_is_told_and_nothing_is_claimed_of_it() {
    let mut journal = Journal::of(release());
    journal.start().minute(60, 60, (10, 0), 0, 1).minute(60, 20, (10, 0), 0, 1).passes(0, 10);
    let report = journal.report();
    let gap = Gap {
        from: Timestamp::from_millis((START + 70) * 1000),
        until: Timestamp::from_millis((START + 110) * 1000),
    };
    assert_eq!((report.traffic.gaps.as_slice(), report.traffic.zero_downtime), (&[gap][..], false));
    assert_eq!(
        report.traffic.sentence,
        "no downtime in what was counted: 0 s in which every request failed, 2 failed requests of 2,020; \
         40 s were not counted, and what happened in them is not known"
    );
    let text = "nothing was counted for 40 s: the daemon was not there, or its last minute is lost";
    assert_eq!(texts(&report), [(Kind::NotCounted, text)]);
    let silent = Report::of(&journal.records, Timestamp::from_millis((START + 900) * 1000)).unwrap();
    assert_eq!(silent.traffic.gaps.len(), 2, "also at the end, once a minute is overdue");
}

#[test]
fn without_requests_or_before_the_start_there_is_no_downtime_to_speak_of() {
    let mut journal = Journal::of(release());
    assert_eq!(journal.report().traffic.sentence, "not started, so nothing was counted");
    journal.start();
    let report = journal.report();
    assert!(!report.traffic.zero_downtime);
    assert_eq!(report.traffic.sentence, "no requests were counted, so nothing can be said about downtime");
    assert!(report.time_to_stable.is_none());
    assert_eq!(Report::of(&[], Timestamp::default()), Err(Misfit::Unplanned));
}

#[test]
fn a_rollback_tells_what_failed_what_was_said_and_how_long_it_took() {
    let mut journal = Journal::of(release());
    journal.start().passes(0, 10).step(1, Step::Validate, Verdict::Passed, "", 0);
    journal.step(1, Step::Execute, Verdict::TimedOut, "gate errors:\nfails", 20);
    journal.step(1, Step::Undo, Verdict::Passed, "", 3).step(
        0,
        Step::Undo,
        Verdict::Failed,
        "no such image",
        60,
    );
    journal.minute(0, 93, (10, 5), 4, 1).note(0, Entry::Finished { state: State::Failed });
    let report = journal.report();
    assert_eq!((report.result, report.why.as_deref()), (State::Failed, Some("phase traffic failed")));
    let states: Vec<_> = report.phases.iter().map(|phase| phase.state).collect();
    assert_eq!(states, [PhaseState::RollbackFailed, PhaseState::RolledBack]);
    assert_eq!(report.phases[1].steps[1].said, "gate errors:\nfails");
    assert_eq!(report.time_to_stable.as_ref().map(|stable| stable.took_ms), Some(3000));
    assert_eq!(
        texts(&report),
        [
            (Kind::StepFailed, "traffic: execute not done in time: ended after 20 s: gate errors:"),
            (Kind::UndoFailed, "deploy: NOT UNDONE after 1 min: no such image"),
            (Kind::Downtime, "traffic: 1,010 requests in 1 min 33 s, 6 failed; all of them in 4 s"),
            (Kind::SlowRollback, "the rollback took 1 min 3 s, and 1 min were promised"),
        ]
    );
    assert!(report.traffic.sentence.starts_with("DOWNTIME: 4 s in which every request failed"));
}

#[test]
fn whatever_is_no_plain_sailing_is_an_incident() {
    let mut launch = release();
    let kind = CheckKind::Tcp { address: "127.0.0.1:1".into() };
    launch.phases[0].verify = Some(vec![Check { kind, timeout: Duration::from_secs(1) }]);
    let mut journal = Journal::of(launch);
    journal.note(
        0,
        Entry::Started {
            candidate: Variant::Green,
            holder: "ada@build-7".into(),
            unmet: vec!["qa has not voted".into()],
            reason: Some("by phone".into()),
        },
    );
    journal
        .step(0, Step::Validate, Verdict::Passed, "", 0)
        .note(0, Entry::Began { phase: 0, step: Step::Execute });
    journal
        .note(20, Entry::Unattended { released: false })
        .note(5, Entry::Leased { holder: "bob@desk".into() });
    journal.step(0, Step::Verify, Verdict::Passed, "", 0);
    journal.note(1, Entry::Stopped { why: Stop::Breaker { sentence: "error rate 5 % of 2 %".into() } });
    journal.note(0, Entry::Told { about: Told::FlagsOff { done: false } });
    let kinds: Vec<Kind> = journal.report().incidents.iter().map(|incident| incident.kind).collect();
    assert_eq!(kinds, [Kind::Override, Kind::Unattended, Kind::Unknown, Kind::Breaker, Kind::Flags]);
    let report = journal.report();
    assert_eq!(
        report.incidents[2].text,
        "execute of deploy was cut off; bob@desk took over, and nobody knew whether it was done"
    );
    assert_eq!(report.overridden.unwrap().unmet, ["qa has not voted"]);
    assert_eq!(report.phases[0].steps[1].verdict, None);
}

#[test]
fn a_trip_is_stable_as_soon_as_nobody_is_on_the_candidate() {
    let mut journal = Journal::of(release());
    journal.start().passes(0, 0).step(1, Step::Validate, Verdict::Passed, "", 0);
    journal.note(5, Entry::Began { phase: 1, step: Step::Execute });
    journal.note(5, Entry::Stopped { why: Stop::Breaker { sentence: "error rate".into() } });
    journal.note(1, Entry::Told { about: Told::FlagsOff { done: true } });
    let off = Figures { candidate: Some(Variant::Green), ..Figures::default() };
    journal.records.last_mut().unwrap().figures = Some(off);
    assert_eq!(journal.report().time_to_stable.unwrap().took_ms, 1000);
}

#[test]
fn signatures_and_votes_are_listed_also_those_that_are_missing() {
    let mut launch = release();
    let person = |role: &str| ItemKind::Person { role: role.into(), due: None, evidence: false };
    let item = |id: &str, kind| Item { id: id.into(), title: None, kind };
    launch.checklist = vec![item("backup", person("devops")), item("docs", person("pm"))];
    launch.go_nogo = Some(GoNoGo { roles: vec!["qa".into(), "pm".into()], due: None });
    let mut journal = Journal::of(launch);
    let (item, role) = ("backup".into(), "devops".into());
    journal.note(1, Entry::Signed { item, role, evidence: Some("s3://backup".into()) });
    journal.note(1, Entry::Voted { role: "qa".into(), go: true, note: None });
    let report = journal.report();
    let passed: Vec<_> = report.checklist.iter().map(|item| item.passed).collect();
    assert_eq!(passed, [Some(true), None]);
    let go: Vec<_> = report.votes.iter().map(|vote| vote.go).collect();
    assert_eq!(go, [Some(true), None]);
    let text = report.markdown();
    for expected in [
        "| backup | ✓ yes | uid 1000 (ops) as devops | 2026-01-01 14:00:01 UTC | s3://backup |\n",
        "| docs | ✗ open | pm did not sign | – |  |\n",
        "| qa | ✓ go | uid 1000 (ops) | 2026-01-01 14:00:02 UTC |  |\n",
        "| pm | ✗ none | – | – |  |\n",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[test]
fn what_came_from_outside_is_shown_and_never_obeyed() {
    let mut launch = release();
    launch.version = Some("<script>alert(1)</script>".into());
    let mut journal = Journal::of(launch);
    let said = "\x1b[2J</pre><img src=x onerror=\"alert('&')\">\n```\n| a | **b** |";
    journal.start().step(0, Step::Validate, Verdict::Failed, said, 1);
    journal.note(0, Entry::Finished { state: State::RolledBack });
    let report = journal.report();
    let html = report.html();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !html.contains("<script"), "{html}");
    let shown = "<pre>[2J&lt;/pre&gt;&lt;img src=x onerror=&quot;alert(&#39;&amp;&#39;)&quot;&gt;\n```\n| a | **b** |</pre>";
    assert!(html.contains(shown), "{html}");
    assert!(html.contains("<p class=\"result bad\">ROLLED_BACK: phase deploy failed</p>"), "{html}");
    let markdown = report.markdown();
    assert!(markdown.contains("\\<script\\>alert(1)\\</script\\>"), "{markdown}");
    assert!(markdown.contains("````text\n[2J</pre>"), "{markdown}");
    assert!(![&html, &markdown].iter().any(|text| text.contains('\x1b')));
}

#[test]
fn a_report_is_the_same_after_json() {
    let mut journal = Journal::of(release());
    journal.start().passes(0, 30).minute(30, 60, (50, 0), 0, 12_000);
    let report = journal.report();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
