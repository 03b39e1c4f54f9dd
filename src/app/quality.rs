//! One live call with both its legs as they are now: the shard knows the call, the media worker how it is heard.

use super::views;
use crate::admin::control::CallView;
use crate::call::io::{Shard, ShardHandle};
use crate::types::{CallId, LegId, LegReport, QualitySample};
use std::time::Duration;
use tokio::sync::oneshot;

/// A worker answers within a millisecond; who asks gets what is known without it rather than nothing.
const PATIENCE: Duration = Duration::from_millis(500);

type Looked = (LegReport, Vec<QualitySample>);

/// The outer `None`: the shard is gone. The inner: there is no such call.
pub async fn call(shard: &ShardHandle, id: CallId) -> Option<Option<CallView>> {
    let asked = shard.ask(move |shard, now| {
        let call = shard.exchange.call(id)?;
        let view = views::call(call, now);
        let (caller, callee) = (call.caller.id, call.callee().map(|leg| leg.id));
        Some((view, look(shard, caller), callee.map(|leg| look(shard, leg))))
    });
    let Some((mut view, caller, callee)) = asked.await? else { return Some(None) };
    if let Some((report, series)) = answer(caller).await {
        (view.caller_leg, view.caller_series) = (Some(report), Some(series));
    }
    if let Some(callee) = callee
        && let Some((report, series)) = answer(callee).await
    {
        (view.callee_leg, view.callee_series) = (Some(report), Some(series));
    }
    Some(Some(view))
}

fn look(shard: &Shard, leg: LegId) -> oneshot::Receiver<Looked> {
    let (tell, told) = oneshot::channel();
    shard.look(leg, move |report, series| {
        let _ = tell.send((report, series));
    });
    told
}

async fn answer(told: oneshot::Receiver<Looked>) -> Option<Looked> {
    tokio::time::timeout(PATIENCE, told).await.ok()?.ok()
}
