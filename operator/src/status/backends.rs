//! Servers, folded from what each agent says of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crd::{
    AgentStatus, BACKENDS_MAX, BackendStatus, EXCEPTIONS_MAX, ServerCounts, ServerException, ServerState,
};

/// Servers that are not healthy. Where agents differ, or one of them finds nothing wrong, that is told instead.
pub(crate) fn fold(agents: &[&AgentStatus]) -> Vec<BackendStatus> {
    let mut all: BTreeMap<&str, Vec<&ServerException>> = BTreeMap::new();
    for exception in agents.iter().flat_map(|agent| &agent.exceptions) {
        all.entry(&exception.server).or_default().push(exception);
    }
    let mut folded: Vec<BackendStatus> = all
        .into_iter()
        .map(|(server, seen)| one(server, &seen, agents))
        .collect();
    // Servers that go away by themselves are worth the least where there are too many.
    folded.sort_by_key(|backend| backend.state == ServerState::Draining);
    folded.truncate(BACKENDS_MAX);
    folded.sort();
    folded
}

fn one(server: &str, seen: &[&ServerException], agents: &[&AgentStatus]) -> BackendStatus {
    let silent = agents.iter().filter(|agent| finds_nothing(agent, server)).count();
    let first = seen.first();
    let alike = silent == 0
        && seen
            .iter()
            .all(|it| Some(it.state) == first.map(|first| first.state));
    let reason = first.and_then(|first| first.reason.clone());
    if alike {
        BackendStatus {
            server: server.to_owned(),
            state: first.map_or(ServerState::Unhealthy, |first| first.state),
            reason,
        }
    } else {
        BackendStatus {
            server: server.to_owned(),
            state: ServerState::Disagreement,
            reason,
        }
    }
}

/// An agent with a full list may just have had no room for the server.
fn finds_nothing(agent: &AgentStatus, server: &str) -> bool {
    agent.exceptions.len() < EXCEPTIONS_MAX && agent.exceptions.iter().all(|it| it.server != server)
}

/// The counts of the agent that sees the fewest healthy servers.
pub(crate) fn counts(agents: &[&AgentStatus]) -> Option<ServerCounts> {
    agents
        .iter()
        .filter_map(|agent| agent.servers)
        .min_by_key(|counts| (counts.healthy, Reverse(counts.panicking)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(exceptions: &[(&str, ServerState)]) -> AgentStatus {
        let exception = |(server, state): &(&str, ServerState)| ServerException {
            server: (*server).to_owned(),
            state: *state,
            reason: Some("NotReady".into()),
        };
        AgentStatus {
            exceptions: exceptions.iter().map(exception).collect(),
            ..AgentStatus::default()
        }
    }

    fn states(agents: &[AgentStatus]) -> Vec<(String, ServerState)> {
        let agents: Vec<&AgentStatus> = agents.iter().collect();
        fold(&agents)
            .into_iter()
            .map(|it| (it.server, it.state))
            .collect()
    }

    #[test]
    fn what_all_agents_say_is_so() {
        let both = [("a", ServerState::Unhealthy), ("b", ServerState::Draining)];
        let expected = both.map(|(server, state)| (server.to_owned(), state));
        assert_eq!(states(&[agent(&both), agent(&both)]), expected);
    }

    #[test]
    fn a_server_that_only_one_agent_complains_of_is_in_dispute() {
        let one = agent(&[("a", ServerState::Unhealthy)]);
        assert_eq!(
            states(&[one, agent(&[])]),
            [("a".to_owned(), ServerState::Disagreement)]
        );
    }

    #[test]
    fn an_agent_with_a_full_list_is_not_heard_on_others() {
        let many: Vec<String> = (0..EXCEPTIONS_MAX).map(|index| format!("x{index:02}")).collect();
        let full: Vec<(&str, ServerState)> = many
            .iter()
            .map(|it| (it.as_str(), ServerState::Unhealthy))
            .collect();
        let other: Vec<(&str, ServerState)> = full[1..]
            .iter()
            .copied()
            .chain([("y", ServerState::Unhealthy)])
            .collect();
        assert!(
            states(&[agent(&full), agent(&other)])
                .iter()
                .all(|(_, state)| *state == ServerState::Unhealthy)
        );
    }

    #[test]
    fn the_most_pessimistic_agent_is_believed() {
        let sees = |healthy| AgentStatus {
            servers: Some(ServerCounts {
                total: 3,
                healthy,
                draining: 0,
                panicking: 0,
            }),
            ..AgentStatus::default()
        };
        let (one, two) = (sees(3), sees(2));
        assert_eq!(counts(&[&one, &two]).map(|it| it.healthy), Some(2));
        assert_eq!(counts(&[]), None);
    }
}
