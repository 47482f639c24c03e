//! Heartbeats: asked at every tick, missed only if the supervisor itself ran on time.

use std::time::Instant;

use bulkhead_channel::ChannelError;
use bulkhead_protocol::event::EventKind;

use super::Instance;
use super::post::Phase;
use super::token::PostIndex;
use crate::heartbeat::{Beat, Load, Tick};

impl Instance {
    /// The tick that is due right after the wait for news, if one is.
    pub(super) fn tick(&mut self) -> Option<Tick> {
        self.metronome.tick(Instant::now())
    }

    /// Passes a tick on to all who serve. To be called after the news were heard: the answer may be
    /// among them.
    pub(super) fn beat(&mut self, tick: Tick) {
        for post in 0..self.posts.len() {
            let Some(Phase::Serving(process, heartbeat)) =
                self.posts.get_mut(post).map(|place| &mut place.phase)
            else {
                continue;
            };
            match heartbeat.tick(tick) {
                Beat::Wait => {}
                Beat::Send(number) => match process.heartbeat(number) {
                    Ok(()) => self.watch_room(post),
                    // Killed from outside a moment ago, most likely: that is no fault of its own.
                    Err(ChannelError::Closed) => self.fell_silent(post),
                    Err(_) => self.hung(post),
                },
                Beat::Suspect => {
                    if let Some(load) = self.load(post)
                        && let Some(Phase::Serving(_, heartbeat)) =
                            self.posts.get_mut(post).map(|place| &mut place.phase)
                    {
                        heartbeat.note(load);
                    }
                }
                Beat::Missed => self.missed(post),
            }
        }
    }

    fn missed(&mut self, post: PostIndex) {
        // The answer may wait behind other news.
        self.on_channel(post, false);
        let load = self.load(post);
        if let Some(Phase::Serving(_, heartbeat)) =
            self.posts.get_mut(post).map(|place| &mut place.phase)
            && heartbeat.hangs(load)
        {
            self.hung(post);
        }
    }

    fn hung(&mut self, post: PostIndex) {
        let Some(place) = self.posts.get(post) else {
            return;
        };
        let (role, id) = (place.role.class(), place.id.clone());
        self.condemn(post, "it did not answer its heartbeat".into());
        self.tell(EventKind::HelperHung { role, id });
    }

    fn load(&self, post: PostIndex) -> Option<Load> {
        let birth = self.posts.get(post)?.process()?.birth.as_ref()?;
        self.proc.load(birth.pid)
    }
}
