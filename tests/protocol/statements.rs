//! Does the model answer as Postgres does? The same random statements to both, through the trait that a session speaks by.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rollcall::{
    clock::Clock,
    deliver::{
        claim::Claim,
        outside::{Outside, Real},
        recover::{Halt, Reason},
        unhalt,
    },
    delta::{self, lane::Lane},
    ids::{DestinationId, Position},
    lease,
};
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    actors::LEASE,
    outside::Model,
    world::{Shared, World},
};
use crate::support::{dice::Dice, postgres::Database};

/// Everybody in the model waits for nobody but whoever polls.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

/// A lane in Postgres and in the model, and what was claimed of it in both.
struct Both {
    pool: PgPool,
    world: Shared,
    real: Real,
    model: Model,
    streams: (Uuid, Uuid),
    claims: Vec<(Claim, Claim)>,
}

impl Both {
    async fn start() -> Both {
        let db = Database::fresh().await;
        for lane in ["live", "bulk"] {
            let destination = sqlx::query("insert into destinations (name, lane) values ('kafka', $1)").bind(lane);
            destination.execute(&db.pool).await.unwrap();
        }
        let mut world = World::new(0, None, false);
        world.calm = true;
        let world: Shared = std::rc::Rc::new(world.into());
        let (real, model, streams) = Both::sessions(&db.pool, &world).await;
        Both { pool: db.pool, world, real, model, streams, claims: Vec::new() }
    }

    /// New sessions, as after a start-over: of the stream that is there now.
    async fn sessions(pool: &PgPool, world: &Shared) -> (Real, Model, (Uuid, Uuid)) {
        let head = delta::head(pool, "kafka", Lane::Live).await.unwrap();
        let of_model = world.borrow().db.now.lanes[0].stream;
        let real = Real::new(pool.clone(), super::target(), &head).unwrap();
        (real, Model::new(world, Lane::Live, of_model), (head.stream, of_model))
    }

    async fn claim(&mut self) {
        let claims = (self.real.claim(self.streams.0).await.unwrap(), now(self.model.claim(self.streams.1)).unwrap());
        match claims {
            (Some(real), Some(model)) => {
                assert_eq!(real.number, model.number);
                self.claims.push((real, model));
            }
            (real, model) => assert_eq!(real.is_some(), model.is_some()),
        }
    }

    async fn start_over(&mut self, start: u64) {
        unhalt::start_over(&self.pool, DestinationId(1)).await.unwrap();
        self.world.borrow_mut().db.now.start_over(start);
    }

    /// One statement by a claim, perhaps an outdated one.
    async fn write(&self, which: usize, (real, model): &(Claim, Claim), next: i64) {
        match which {
            0 => {
                let next = Position(next);
                let told = (self.real.mirror(real, next).await.unwrap(), now(self.model.mirror(model, next)).unwrap());
                assert_eq!(told.0, told.1, "mirror");
            }
            1 => {
                self.real.live(real).await.unwrap();
                now(self.model.live(model)).unwrap();
            }
            2 => {
                let halt = Halt::new(Reason::CursorAhead, next.to_string());
                let (real, model) = (self.real.halted(real, &halt).await, now(self.model.halted(model, &halt)));
                assert_eq!(real.kind, model.kind, "halted");
            }
            3 => {
                let from =
                    (self.real.cursor_from(real, next).await.ok(), now(self.model.cursor_from(model, next)).ok());
                assert_eq!(from.0, from.1, "cursor_from");
            }
            _ => {
                let holds = (self.real.holds(real).await.unwrap(), now(self.model.holds(model)).unwrap());
                assert_eq!(holds.0, holds.1, "holds");
            }
        }
    }

    /// Both have the same rows now.
    async fn agree(&self) {
        let row: Option<(i64, i64, Option<i64>, Option<String>)> = sqlx::query_as(
            "select claim, cursor_position, cursor_from, halt_reason from deliveries where destination_id = 1",
        )
        .fetch_optional(&self.pool)
        .await
        .unwrap();
        let delivery = self.world.borrow().db.now.deliveries[0].clone();
        let halt = delivery.halt.map(|(reason, _)| reason);
        let model = (delivery.claim, delivery.position, delivery.cursor_from, halt);
        // Before the first claim there is no row.
        assert_eq!(row.unwrap_or_default(), model);
        let retired = (self.real.retired().await.unwrap().len(), now(self.model.retired()).unwrap().len());
        assert_eq!(retired.0, retired.1, "retired streams");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_statements_answer_as_the_real_ones_do() {
    let mut both = Both::start().await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let (mut dice, mut starts) = (Dice::of(seed), 0);
    for _ in 0..800 {
        match dice.below(12) {
            0 | 1 => both.claim().await,
            2 if dice.one_in(3) => {
                starts += 1;
                both.start_over(starts).await;
            }
            3 => {
                (both.real, both.model, both.streams) = Both::sessions(&both.pool, &both.world).await;
            }
            4 => {
                let (real, model) = (both.real.retired().await.unwrap(), now(both.model.retired()).unwrap());
                both.real.fenced(&real).await.unwrap();
                now(both.model.fenced(&model)).unwrap();
            }
            which if !both.claims.is_empty() => {
                // Most often a recent one.
                let back = dice.below(both.claims.len().min(4));
                let claim = both.claims[both.claims.len() - 1 - back];
                both.write(which % 5, &claim, dice.below(30) as i64).await;
            }
            _ => {}
        }
        both.agree().await;
    }
    assert!(
        starts > 3 && both.claims.len() > 20,
        "the test proves nothing: {starts} starts, {} claims",
        both.claims.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_leases_are_granted_as_the_real_ones_are() {
    let db = Database::fresh().await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let (mut dice, clock, mut rows) = (Dice::of(seed), Clock::system(), World::new(0, None, false).db.now);
    let (mut time, mut leases) = (Duration::ZERO, Vec::new());
    for epoch in 1..300 {
        // Less than the minute beyond which an end is taken for that of a clock which went back.
        let (holder, ttl) = (dice.below(3), 3 * LEASE);
        match dice.below(6) {
            0 | 1 => {
                let id = Uuid::from_u128(holder as u128);
                let real = lease::acquire(&db.pool, &clock, "destination:kafka", id, ttl).await.unwrap();
                let model = rows.acquire(time, holder, epoch, ttl);
                assert_eq!(real.is_some(), model.is_some(), "acquire");
                leases.extend(real.zip(model).map(|(real, epoch)| (real, holder, epoch)));
            }
            2 | 3 if !leases.is_empty() => {
                let which = dice.below(leases.len());
                let (real, holder, epoch) = &mut leases[which];
                let renewed = lease::renew(&db.pool, &clock, real).await.unwrap();
                let model = rows.renew(time, *holder, *epoch, ttl);
                assert_eq!(renewed.then(|| real.is_asked()), model, "renew");
            }
            4 if !leases.is_empty() => {
                let (real, holder, epoch) = leases.swap_remove(dice.below(leases.len()));
                lease::release(&db.pool, real).await.unwrap();
                rows.release(holder, epoch);
            }
            5 => {
                // Time passes: in Postgres by moving the row's end.
                time += 61 * LEASE;
                sqlx::query("update leases set expires_at = clock_timestamp()").execute(&db.pool).await.unwrap();
            }
            _ => {}
        }
        let (real, held): (i64, bool) = (leases.len() as i64, rows.lease.is_some());
        let there: i64 = sqlx::query_scalar("select count(*) from leases").fetch_one(&db.pool).await.unwrap();
        assert_eq!(there == 1, held, "{real} granted");
    }
}
