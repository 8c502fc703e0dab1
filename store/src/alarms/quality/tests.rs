//! The figures against a naïve count of the same random alarms.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::alarms::{MIGRATIONS, POSTGRES_MIGRATIONS};
use crate::place::Place;
use crate::sql::{Database, PostgresOptions, params};

/// An alarm as the naïve model has it.
#[derive(Clone, Debug)]
struct Raise {
    device: u64,
    rule: u8,
    location: u64,
    severity: u8,
    at: i64,
    cleared_after: Option<i64>,
    acknowledged_after: Option<i64>,
    late_ms: i64,
    shelved: bool,
}

const NOW: i64 = 10 * 24 * HOUR_MS;

fn raise() -> impl Strategy<Value = Raise> {
    // Dense in places and on a coarse grid, so that floods and chattering come
    // about, and exactly at their bounds.
    let at = prop_oneof![
        1 => 0..NOW,
        4 => (0..2i64, 0..90i64).prop_map(|(day, step)| day * 24 * HOUR_MS + step * 20_000),
        2 => (0..2i64, 0..8i64).prop_map(|(day, step)| {
            day * 24 * HOUR_MS + 2 * HOUR_MS + step * 15_000
        }),
    ];
    let after = || prop_oneof![0..2 * MOMENT_MS, 0..5 * HOUR_MS, 0..3 * 24 * HOUR_MS];
    (
        (1..4u64, 0..3u8, 0..5u8),
        at,
        proptest::option::of(after()),
        proptest::option::of(after()),
        (0..60_000i64, any::<bool>()),
    )
        .prop_map(|((device, rule, severity), at, cleared_after, acknowledged_after, rest)| {
            Raise {
                device,
                rule,
                location: 1 + device % 2,
                severity,
                at,
                cleared_after,
                acknowledged_after,
                late_ms: rest.0,
                shelved: rest.1 && cleared_after.is_none(),
            }
        })
}

fn fill(sql: &Session, raises: &[Raise]) {
    sql.execute("DROP INDEX IF EXISTS alarms_uncleared", []).unwrap();
    sql.execute("DELETE FROM alarms", []).unwrap();
    for (number, raise) in raises.iter().enumerate() {
        let cleared = raise.cleared_after.map(|after| raise.at + after);
        sql.execute(
            "INSERT INTO alarms (id, tenant, location, device, profile, rule, severity, active,
                acknowledged, raised_at, raised_severity, raised_details, peak_at, peak_severity,
                peak_details, updated_at, last_details, updates, received_at, cleared_at,
                acknowledged_at, shelved_until)
             VALUES (?1, 1, ?2, ?3, 9, ?4, ?5, ?6, ?7, ?8, ?5, '', 0, 0, '', 0, '', 0, ?9, ?10,
                ?11, ?12)",
            params![
                (number as u128).to_be_bytes(),
                raise.location,
                raise.device,
                raise.rule.to_string(),
                raise.severity,
                cleared.is_none(),
                raise.acknowledged_after.is_some(),
                raise.at,
                raise.at + raise.late_ms,
                cleared,
                raise.acknowledged_after.map(|after| raise.at + after),
                raise.shelved.then_some(NOW + 1),
            ],
        )
        .unwrap();
    }
}

/// Counts each thing by itself, as one would by hand.
fn naive(raises: &[Raise], query: &QualityQuery) -> QualityFigures {
    let ours = |raise: &&Raise| query.location.is_none_or(|id| id.0 == raise.location);
    let within: Vec<&Raise> = raises
        .iter()
        .filter(ours)
        .filter(|raise| (query.from.0..query.to.0).contains(&raise.at))
        .collect();
    let mut figures = QualityFigures { raised: within.len() as u64, ..QualityFigures::default() };
    for raise in &within {
        let severity = Severity::from_u8(raise.severity).unwrap();
        *figures.by_severity.entry(severity).or_default() += 1;
    }
    let count = |begin: i64, size: i64| {
        within.iter().filter(|raise| (begin..begin + size).contains(&raise.at)).count() as u64
    };
    naive_rates(&mut figures, query, &count);
    let mut by_alarm: BTreeMap<(u64, u8), Vec<&Raise>> = BTreeMap::new();
    for raise in &within {
        by_alarm.entry((raise.device, raise.rule)).or_default().push(raise);
    }
    for raises in by_alarm.values() {
        let chatters = raises.iter().any(|first| {
            let soon = |other: &&&Raise| (first.at..first.at + MOMENT_MS).contains(&other.at);
            raises.iter().filter(soon).count() >= CHATTERING_RAISES as usize
        });
        let short = |raise: &&&Raise| raise.cleared_after.is_some_and(|after| after < MOMENT_MS);
        if chatters {
            figures.chattering += 1;
            figures.chattering_raised += raises.len() as u64;
        } else {
            figures.fleeting += raises.iter().filter(short).count() as u64;
        }
    }
    let end = query.to.0.min(query.now.0);
    let is_stale = |raise: &&Raise| {
        let on = raise.cleared_after.map_or(!raise.shelved, |after| raise.at + after > end);
        on && raise.at + STALE_AFTER_MS <= end
    };
    // What was cleared after the period is no longer active today either way.
    let known = |raise: &&Raise| query.now.0 > query.to.0 || raise.cleared_after.is_none();
    figures.stale = raises.iter().filter(ours).filter(known).filter(is_stale).count() as u64;
    let mut took: Vec<i64> = within
        .iter()
        .filter_map(|raise| Some((raise.acknowledged_after? - raise.late_ms).max(0)))
        .collect();
    took.sort_unstable();
    let rank = |percent: usize| Some(took[((took.len() * percent).div_ceil(100)).checked_sub(1)?]);
    let (median_ms, p90_ms) = (rank(50), rank(90));
    figures.acknowledged = Acknowledgements { count: took.len() as u64, median_ms, p90_ms };
    figures.shelved_now = raises.iter().filter(ours).filter(|raise| raise.shelved).count() as u64;
    figures
}

fn naive_rates(
    figures: &mut QualityFigures,
    query: &QualityQuery,
    count: &dyn Fn(i64, i64) -> u64,
) {
    let (mut begin, mut flood_since, mut floods) = (query.from.0, None, Vec::new());
    while begin < query.to.0 {
        let now = count(begin, PERIOD_MS);
        figures.periods += 1;
        figures.periods_over += u64::from(now > FLOOD_BEGINS_OVER);
        if now > figures.peak {
            (figures.peak, figures.peak_at) = (now, Some(TimestampMs(begin)));
        }
        match flood_since {
            None if now > FLOOD_BEGINS_OVER => flood_since = Some(begin),
            Some(since) if now < FLOOD_ENDS_BELOW => {
                floods.push((since, begin));
                flood_since = None;
            }
            _ => {}
        }
        figures.floods.raised += if flood_since.is_some() { now } else { 0 };
        begin += PERIOD_MS;
    }
    floods.extend(flood_since.map(|since| (since, query.to.0)));
    for (since, end) in floods {
        figures.floods.count += 1;
        figures.floods.total_ms += end - since;
        if end - since > figures.floods.longest_ms {
            figures.floods.longest_ms = end - since;
            figures.floods.longest_at = Some(TimestampMs(since));
        }
    }
    let mut begin = query.from.0;
    while begin < query.to.0 {
        figures.hours += 1;
        figures.busy_hours += u64::from(count(begin, HOUR_MS) > BUSY_HOUR_OVER);
        begin += HOUR_MS;
    }
}

/// Sessions to both databases. The places go with them.
fn open() -> [(Place, Session); 2] {
    [Place::folder(), Place::postgres()].map(|place| {
        let embedded = |dir: &std::path::Path| {
            Database::file(dir.join("alarms.db"), MIGRATIONS).open().unwrap()
        };
        let postgres = |url: &str| {
            let options = PostgresOptions::parse(url).unwrap();
            Database::schema(&options, "baken_alarms", POSTGRES_MIGRATIONS).open().unwrap()
        };
        let session = place.open(embedded, postgres);
        (place, session)
    })
}

thread_local! {
    static DATABASES: [(Place, Session); 2] = open();
}

/// The figures as both databases have them.
fn both(raises: &[Raise], query: &QualityQuery) -> QualityFigures {
    DATABASES.with(|databases| {
        let [embedded, postgres] = databases.each_ref().map(|(_, sql)| {
            fill(sql, raises);
            figures(sql, query).unwrap()
        });
        assert_eq!(embedded, postgres);
        embedded
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_figures_are_those_of_a_count_by_hand(
        raises in proptest::collection::vec(raise(), 0..120),
        from in prop_oneof![Just(0i64), 0..24 * HOUR_MS],
        span in 1..12 * 24 * HOUR_MS,
        location in proptest::option::of(1..3u64),
    ) {
        let query = QualityQuery {
            tenant: Some(TenantId(1)),
            location: location.map(LocationId),
            from: TimestampMs(from),
            to: TimestampMs(from + span),
            now: TimestampMs(NOW),
        };
        let mut found = both(&raises, &query);
        let expected = naive(&raises, &query);
        let sum = |listed: &[Offender]| listed.iter().map(|one| one.raised).sum::<u64>();
        // Nine alarms at most, so that the lists are whole.
        prop_assert_eq!(sum(&found.top_alarms), expected.raised);
        prop_assert_eq!(sum(&found.chattering_listed), expected.chattering_raised);
        prop_assert_eq!(sum(&found.fleeting_listed), expected.fleeting);
        prop_assert_eq!(found.top_rules.iter().map(|rule| rule.2).sum::<u64>(), expected.raised);
        prop_assert_eq!(found.top_locations.iter().map(|at| at.1).sum::<u64>(), expected.raised);
        prop_assert_eq!(found.stale_listed.len() as u64, expected.stale.min(LISTED as u64));
        prop_assert!(found.top_alarms.is_sorted_by(|a, b| a.raised >= b.raised));
        found.top_alarms.clear();
        found.chattering_listed.clear();
        found.fleeting_listed.clear();
        found.top_rules.clear();
        found.top_locations.clear();
        found.stale_listed.clear();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_flood_goes_on_between_its_two_bounds() {
    let counts: [u64; 7] = [3, 11, 7, 5, 4, 12, 0];
    let mut raises = Vec::new();
    for (period, count) in (0..).zip(counts) {
        raises.extend((0..count).map(|number| Raise {
            device: number,
            rule: 0,
            location: 1,
            severity: 3,
            at: period * PERIOD_MS + i64::try_from(number).unwrap(),
            cleared_after: Some(2 * MOMENT_MS),
            acknowledged_after: None,
            late_ms: 0,
            shelved: false,
        }));
    }
    let query = QualityQuery {
        tenant: None,
        location: None,
        from: TimestampMs(0),
        to: TimestampMs(7 * PERIOD_MS),
        now: TimestampMs(NOW),
    };
    let found = both(&raises, &query);
    let expected = Floods {
        count: 2,
        total_ms: 4 * PERIOD_MS,
        longest_ms: 3 * PERIOD_MS,
        longest_at: Some(TimestampMs(PERIOD_MS)),
        raised: 11 + 7 + 5 + 12,
    };
    assert_eq!(found.floods, expected);
    assert_eq!((found.peak, found.peak_at), (12, Some(TimestampMs(5 * PERIOD_MS))));
}
