//! Who holds a router's session, as two nodes say it to a real PostgreSQL.

use prometheus::Registry;
use schema::{RouterId, TimestampMs};
use store::cluster::{Cluster, EndedSession, HeldSession, NewSession, NodeId};
use store::{PostgresHistoryOptions, PostgresOptions, Store};

use super::postgres;

const ROUTER: RouterId = RouterId(7);

struct Member {
    store: Store,
    node: NodeId,
}

impl Member {
    async fn enter(url: &str, name: &str) -> Self {
        let options = PostgresOptions::parse(url).unwrap();
        let history = PostgresHistoryOptions::default();
        let store = Store::open_postgres(&options, 1, &history, &Registry::new()).await.unwrap();
        let node = store.cluster().unwrap().enter(name, true).await.unwrap();
        Self { store, node }
    }

    fn cluster(&self) -> &Cluster {
        self.store.cluster().unwrap()
    }

    async fn comes(&self, number: u64, connected_at: i64, is_fresh: bool) -> HeldSession {
        let client_id = "press".into();
        let shown = "{}".to_owned();
        let new = NewSession { router: ROUTER, client_id, number, connected_at, shown, is_fresh };
        only(self.cluster().say(self.node, vec![new], Vec::new()).await.unwrap())
    }

    async fn goes(&self, number: u64, said_at: i64) -> HeldSession {
        let ended = EndedSession { router: ROUTER, client_id: "press".into(), number, said_at };
        only(self.cluster().say(self.node, Vec::new(), vec![ended]).await.unwrap())
    }
}

fn only(mut sessions: Vec<HeldSession>) -> HeldSession {
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_the_one_to_which_a_router_came_last_holds_it() {
    let url = postgres::shared().database().await;
    let (one, two) = (Member::enter(&url, "one").await, Member::enter(&url, "two").await);
    let came = one.comes(1, 1_000, true).await;
    assert_eq!((came.node, came.said_at), (Some(one.node), TimestampMs(1_000)));

    // The other's clock is behind, and what it says is later all the same.
    let came = two.comes(1, 400, true).await;
    assert_eq!((came.node, came.said_at), (Some(two.node), TimestampMs(1_001)));
    let heard = only(one.cluster().hear().await.unwrap().sessions);
    assert_eq!(heard, came);
    // What the first held has not ended: it is held elsewhere.
    let held = one.goes(1, 2_000).await;
    assert_eq!(held, came);
    // What it says late takes nothing from who holds it.
    assert_eq!(one.comes(2, 3_000, false).await, came);
    assert_eq!(one.comes(3, 3_000, true).await.node, Some(one.node));

    let gone = one.goes(3, 2_500).await;
    assert_eq!((gone.node, gone.said_at), (None, TimestampMs(3_001)));
    let only_gone = std::slice::from_ref(&gone);
    assert_eq!(two.cluster().hear().await.unwrap().sessions, only_gone);
    assert_eq!(two.cluster().of(ROUTER), only_gone);
    assert_eq!(two.comes(2, 100, false).await.said_at, TimestampMs(3_002), "it is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_s_sessions_end_when_it_was_heard_last_until_that_is_said() {
    let url = postgres::shared().database().await;
    let (one, two) = (Member::enter(&url, "one").await, Member::enter(&url, "two").await);
    one.comes(1, 1_000, true).await;
    assert!(two.cluster().beat().await.unwrap());
    let nodes = two.cluster().nodes();
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    two.cluster().write(vec![one.node], "hello".to_owned()).await.unwrap();

    let dead = &nodes[0];
    two.cluster().bury(dead).await.unwrap();
    let ended = two.cluster().untold(TimestampMs(dead.heard_at.0 + 1)).await.unwrap();
    assert_eq!(only(ended).said_at, dead.heard_at);
    assert_eq!(two.cluster().untold(dead.heard_at).await.unwrap(), []);
    two.cluster().told(vec![ROUTER]).await.unwrap();
    assert_eq!(two.cluster().untold(TimestampMs(i64::MAX)).await.unwrap(), []);

    assert!(!one.cluster().beat().await.unwrap(), "it has to enter anew");
    assert_eq!(one.cluster().hear().await.unwrap().letters.len(), 0, "they died with it");
    let again = one.cluster().enter("one", true).await.unwrap();
    assert_ne!(again, one.node);
    two.cluster().write(vec![again], "first".to_owned()).await.unwrap();
    two.cluster().write(vec![again, two.node], "second".to_owned()).await.unwrap();
    assert_eq!(one.cluster().hear().await.unwrap().letters, ["first", "second"]);
    assert_eq!(one.cluster().hear().await.unwrap().letters.len(), 0, "each is read once");
    assert_eq!(two.cluster().hear().await.unwrap().letters, ["second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_seen_by_others_and_a_word_tells_of_it() {
    let url = postgres::shared().database().await;
    let (one, two) = (Member::enter(&url, "one").await, Member::enter(&url, "two").await);
    one.comes(1, 1_000, true).await;
    let mut words = two.cluster().follow();
    // The first says that the channel is heard from now on.
    words.next().await;
    two.cluster().hear().await.unwrap();
    let since = Some(TimestampMs(5_000));
    one.cluster().note_silence(vec![(ROUTER, since)]).await.unwrap();
    words.next().await;
    two.cluster().hear().await.unwrap();
    assert_eq!(only(two.cluster().of(ROUTER)).silent_since, since);
    assert!(two.cluster().is_loaded());
}
