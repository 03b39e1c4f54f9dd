//! Two operators that call each other on this machine.

use super::*;
use crate::simulator::operator::ledger::{ReleasedBy, Side};
use crate::simulator::speech;
use tokio::sync::oneshot;

fn settings(name: &str) -> RunSettings {
    let folder = std::env::temp_dir().join(format!("tandem-operator-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    RunSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        machine: Settings::default(),
        speech: speech::callee(),
        record: Some(folder.join("heard")),
        ledger: Some(folder.join("calls.jsonl")),
        orders: Vec::new(),
        tls: None,
        media_timeout: Duration::from_secs(30),
    }
}

fn order(number: &str, transport: Transport, via: SocketAddr) -> OrderPlan {
    OrderPlan {
        number: number.to_owned(),
        from: "+32470123456".to_owned(),
        withheld: false,
        via: Some((transport, via)),
        talk: Some(Duration::from_millis(400)),
        patience: Duration::from_secs(20),
    }
}

/// Runs an operator with the calls `orders` gives it towards another one; the ledgers of both, the callee's first.
async fn converse(
    name: &str,
    orders: impl FnOnce(SocketAddr) -> Vec<OrderPlan>,
) -> (Vec<Entry>, Vec<Entry>, RunSettings) {
    let callee = settings(&format!("{name}-callee"));
    let (listening, address) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut listening = Some(listening);
    let notice = move |notice: Notice| match notice {
        Notice::Listening(address) => drop(listening.take().map(|listening| listening.send(address))),
        Notice::Registered { .. } | Notice::Alive { .. } | Notice::Call(_) => {}
    };
    let running = tokio::spawn(run(callee.clone(), notice, async { drop(stopped.await) }));
    let caller =
        RunSettings { orders: orders(address.await.unwrap()), ..settings(&format!("{name}-caller")) };
    run(caller.clone(), |_| {}, std::future::pending()).await.unwrap();
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    (entries(&callee), entries(&caller), callee)
}

/// The ledger in the order in which the calls began.
fn entries(settings: &RunSettings) -> Vec<Entry> {
    let text = std::fs::read_to_string(settings.ledger.as_ref().unwrap()).unwrap();
    let mut entries: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    entries.sort_by_key(|entry| entry.call);
    entries
}

fn clean(settings: &RunSettings) {
    let folder = settings.ledger.as_ref().unwrap().parent().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn both_ledgers_tell_the_same_calls_over_udp_and_tcp() {
    let (called, calling, callee) = converse("same", |via| {
        vec![
            order("+3247000200", Transport::Udp, via),
            order("+3247000486", Transport::Udp, via),
            order("+3257000200", Transport::Tcp, via),
        ]
    })
    .await;
    assert_eq!((called.len(), calling.len()), (3, 3));
    for ours in &calling {
        let theirs = called.iter().find(|entry| entry.call_id == ours.call_id).unwrap();
        assert_eq!((ours.side, theirs.side), (Side::Caller, Side::Callee));
        assert_eq!((&ours.called, &ours.transport), (&theirs.called, &theirs.transport));
        assert_eq!((ours.status, ours.released_by), (theirs.status, theirs.released_by));
        if ours.status == 486 {
            assert_eq!((ours.released_by, ours.duration_ms), (ReleasedBy::Callee, 0));
            continue;
        }
        assert_eq!(ours.released_by, ReleasedBy::Caller);
        assert!(ours.duration_ms.abs_diff(theirs.duration_ms) < 200, "{ours:?} {theirs:?}");
        for entry in [ours, theirs] {
            assert!(entry.duration_ms >= 400 && entry.media.packets_heard >= 10, "{entry:?}");
            let heard = Wav::read(entry.recording.as_ref().unwrap().as_ref()).unwrap();
            assert!(heard.seconds() > 0.2, "{}", heard.seconds());
        }
    }
    clean(&callee);
}

#[tokio::test]
async fn a_call_to_nobody_is_given_up_and_told() {
    let mut quiet = settings("quiet");
    let via: SocketAddr = "127.0.0.1:9".parse().unwrap();
    quiet.orders =
        vec![OrderPlan { patience: Duration::from_millis(50), ..order("+321", Transport::Udp, via) }];
    quiet.ledger = None;
    // Nobody is there: the call is given up, and its end is not waited for.
    let mut told = Vec::new();
    let notice = |notice: Notice| match notice {
        Notice::Call(entry) => told.push(*entry),
        Notice::Listening(_) | Notice::Registered { .. } | Notice::Alive { .. } => {}
    };
    run(quiet, notice, async {
        drop(tokio::time::timeout(Duration::from_millis(200), std::future::pending::<()>()).await)
    })
    .await
    .unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].answered_at, None);
}
