use super::*;
use crate::plan::{Step, plan};
use crate::table::fixture::{at, table};
use crate::table::{Family, Rules, Server};

const TIMEOUT: Duration = Duration::from_secs(30);

fn listener(protocol: Protocol) -> Listener {
    Listener::marked(Family::V4, protocol, 80)
}

struct Scene {
    drain: Drain,
    start: Instant,
    active: ActiveConnections,
    is_counted: bool,
    ended: Vec<Ended>,
}

impl Scene {
    fn new() -> Self {
        Self {
            drain: Drain::default(),
            start: Instant::now(),
            active: BTreeMap::new(),
            is_counted: true,
            ended: Vec::new(),
        }
    }

    fn after(&mut self, seconds: u64, current: &Table, wanted: &Table) -> Table {
        let mut wanted = wanted.clone();
        let now = self.start + Duration::from_secs(seconds);
        let current = Current {
            now,
            table: current,
            active: &self.active,
            is_counted: self.is_counted,
        };
        self.ended = self.drain.extend(&mut wanted, current, TIMEOUT);
        wanted
    }

    /// How the drain of a server ended with the last look.
    fn ended(&self) -> Option<(Outcome, u32)> {
        let [ended] = &self.ended[..] else { return None };
        Some((ended.outcome, ended.connections))
    }
}

#[test]
fn a_server_that_goes_away_gets_weight_0_first_even_without_connections() {
    let tcp = listener(Protocol::TCP);
    let mut scene = Scene::new();
    let now = scene.after(0, &table(tcp, &[(1, 1), (2, 1)]), &table(tcp, &[(1, 1)]));
    assert_eq!(now, table(tcp, &[(1, 1), (2, 0)]));
    assert!(scene.drain.is_busy());
}

#[test]
fn it_is_removed_when_it_had_no_connections_for_a_moment() {
    let tcp = listener(Protocol::TCP);
    let mut scene = Scene::new();
    let (draining, wanted) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
    scene.active.insert((tcp, at(2)), 1);
    assert_eq!(scene.after(0, &draining, &wanted), draining);
    scene.active.clear();
    assert_eq!(scene.after(1, &draining, &wanted), draining);
    assert_eq!(scene.after(2, &draining, &wanted), wanted);
    assert_eq!(scene.ended(), Some((Outcome::Finished, 0)));
    assert!(!scene.drain.is_busy());
}

#[test]
fn it_is_removed_when_its_time_is_over() {
    let tcp = listener(Protocol::TCP);
    let mut scene = Scene::new();
    let (draining, wanted) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
    scene.active.insert((tcp, at(2)), 7);
    assert_eq!(scene.after(0, &draining, &wanted), draining);
    assert_eq!(scene.after(29, &draining, &wanted), draining);
    assert_eq!(scene.ended(), None);
    assert_eq!(scene.after(30, &draining, &wanted), wanted);
    assert_eq!(scene.ended(), Some((Outcome::Cut, 7)));
}

#[test]
fn who_comes_back_gets_its_weight_and_its_full_time_back() {
    let tcp = listener(Protocol::TCP);
    let mut scene = Scene::new();
    let (both, draining) = (table(tcp, &[(1, 1), (2, 1)]), table(tcp, &[(1, 1), (2, 0)]));
    let one = table(tcp, &[(1, 1)]);
    scene.active.insert((tcp, at(2)), 1);
    scene.after(0, &draining, &one);
    let back = scene.after(20, &draining, &both);
    assert_eq!(scene.ended(), Some((Outcome::Returned, 1)));
    assert_eq!(
        plan(&draining, &back),
        [Step::SetServer(tcp, at(2), Server::nat(Weight::NORMAL))]
    );
    assert_eq!(scene.after(40, &both, &one), draining);
}

#[test]
fn udp_moves_after_a_short_grace() {
    let udp = listener(Protocol::UDP);
    let mut scene = Scene::new();
    let (draining, wanted) = (table(udp, &[(1, 1), (2, 0)]), table(udp, &[(1, 1)]));
    scene.active.insert((udp, at(2)), 3);
    assert_eq!(scene.after(0, &draining, &wanted), draining);
    assert_eq!(scene.after(4, &draining, &wanted), draining);
    assert_eq!(scene.after(5, &draining, &wanted), wanted);
    assert_eq!(scene.ended(), Some((Outcome::Moved, 3)));
}

#[test]
fn a_removed_listener_loses_its_mark_at_once_and_its_service_when_drained() {
    let tcp = listener(Protocol::TCP);
    let mut scene = Scene::new();
    scene.active.insert((tcp, at(1)), 1);
    let none = Table {
        rules: BTreeMap::from([(Family::V4, Rules::default())]),
        ..Table::default()
    };
    let now = scene.after(0, &table(tcp, &[(1, 1)]), &none);
    assert_eq!(now.services, table(tcp, &[(1, 0)]).services);
    assert_eq!(now.rules, none.rules);
    scene.active.clear();
    assert_eq!(scene.after(2, &now, &none), none);
}

#[test]
fn no_drain_ends_by_an_old_number() {
    let tcp = listener(Protocol::TCP);
    let (draining, one) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
    let mut scene = Scene::new();
    scene.after(0, &draining, &one);
    scene.is_counted = false;
    assert_eq!(scene.after(40, &draining, &one), draining);
    assert_eq!(scene.ended(), None);
    scene.is_counted = true;
    assert_eq!(scene.after(40, &draining, &one), one);
}

#[test]
fn connections_are_counted_when_a_drain_may_end_and_then_not_all_the_time() {
    let tcp = listener(Protocol::TCP);
    let (draining, one) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
    let mut scene = Scene::new();
    let later = |scene: &Scene, seconds| scene.start + Duration::from_secs(seconds);
    let server = at(2);
    assert_eq!(scene.drain.due(TIMEOUT), None);
    scene.active.insert((tcp, server), 1);
    scene.after(0, &draining, &one);
    assert_eq!(scene.drain.due(TIMEOUT), Some(later(&scene, 2)));
    assert!(scene.drain.undecided(TIMEOUT, later(&scene, 1)).is_empty());
    assert_eq!(scene.drain.undecided(TIMEOUT, later(&scene, 2)), [tcp].into());
    scene.after(2, &draining, &one);
    assert_eq!(scene.drain.due(TIMEOUT), Some(later(&scene, 3)));
    assert!(!scene.drain.is_late(TIMEOUT, later(&scene, 3)));
    assert!(scene.drain.is_late(TIMEOUT, later(&scene, 4)));
    // Who has no time to drain waits for nothing.
    assert!(scene.drain.is_late(Duration::ZERO, later(&scene, 2)));
}

#[test]
fn an_adopted_draining_server_goes_like_any_other() {
    let tcp = listener(Protocol::TCP);
    let (draining, wanted) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
    let mut scene = Scene::new();
    assert_eq!(scene.after(0, &draining, &wanted), draining);
    assert_eq!(scene.after(2, &draining, &wanted), wanted);
}

#[test]
fn with_no_time_to_drain_a_server_goes_at_once() {
    let tcp = listener(Protocol::TCP);
    let mut wanted = table(tcp, &[]);
    let current = table(tcp, &[(1, 1)]);
    let active = ActiveConnections::new();
    let current = Current {
        now: Instant::now(),
        table: &current,
        active: &active,
        is_counted: true,
    };
    Drain::default().extend(&mut wanted, current, Duration::ZERO);
    assert_eq!(wanted, table(tcp, &[]));
}
