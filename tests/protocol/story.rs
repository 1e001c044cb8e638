//! One story: instances, a sealer and an operator take their steps by chance while things go wrong; then all comes to rest.

use std::{
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use rollcall::{config::Delivery, deliver::Target};

use super::{
    actors::{self, LEASE},
    log::TOPIC,
    world::{CURSORS, Safeguard, Shared, World},
};

/// Steps while things go wrong, and those after which all must have come right.
const CHAOS: usize = 1_500;
const REST: usize = 12_000;

const INSTANCES: usize = 2;

/// What goes wrong in a story, drawn at its beginning: few kinds at a time tell more than all at once.
#[derive(Debug, Clone, Copy)]
struct Weather {
    deaths: bool,
    pauses: bool,
    failovers: bool,
    topics: bool,
    prunes: bool,
}

impl Weather {
    /// Where a safeguard is missing, it is the weather in which that shows soonest: overtaken instances and new streams.
    fn draw(world: &mut World, target: &mut Target) -> Weather {
        let without = world.without();
        let is_safe = without.is_none();
        let goes_back = without == Some(Safeguard::History);
        let dice = &mut world.dice;
        let weather = Weather {
            deaths: dice.one_in(2),
            pauses: dice.one_in(2) || !is_safe,
            failovers: (dice.one_in(3) && is_safe) || goes_back,
            topics: dice.one_in(4) && is_safe,
            prunes: dice.one_in(4),
        };
        target.page_changes = 1 + dice.below(6);
        let (at_least_once, leaseless, busy) = (dice.one_in(5) && is_safe, dice.one_in(3), dice.one_in(6));
        if at_least_once {
            target.delivery = Delivery::AtLeastOnce;
        }
        (world.at_least_once, world.leaseless, world.busy) =
            (at_least_once, leaseless || !is_safe, busy || (!is_safe && !goes_back));
        weather
    }
}

struct Actor {
    life: Pin<Box<dyn Future<Output = ()>>>,
    /// Stopped until then.
    stopped: usize,
}

struct Story {
    world: Shared,
    target: Target,
    actors: Vec<Actor>,
    weather: Weather,
    step: usize,
}

/// Tells the story of a seed; the error is what was wrong.
pub fn run(seed: u64, target: &Target, without: Option<Safeguard>, told: bool) -> Result<u64, String> {
    let world = Rc::new(RefCell::new(World::new(seed, without, told)));
    let ended = catch_unwind(AssertUnwindSafe(|| Story::begin(&world, target).run()));
    let world = world.try_borrow().map_err(|_| format!("seed {seed} panics"))?;
    let result = match ended {
        Ok(Ok(())) => Ok(world.witness.told),
        Ok(Err(wrong)) => Err(wrong),
        Err(_) => Err("it panics".to_owned()),
    };
    result.map_err(|wrong| format!("seed {seed}: {wrong}\n{}", world.story()))
}

impl Story {
    fn begin(world: &Shared, target: &Target) -> Story {
        let mut within = world.borrow_mut();
        let mut target = target.clone();
        let weather = Weather::draw(&mut within, &mut target);
        drop(within);
        let mut story = Story { world: world.clone(), target, actors: Vec::new(), weather, step: 0 };
        for holder in 0..INSTANCES {
            let life = story.instance(holder);
            story.actors.push(life);
        }
        let others: [Pin<Box<dyn Future<Output = ()>>>; 2] =
            [Box::pin(actors::sealer(world.clone())), Box::pin(actors::operator(world.clone()))];
        story.actors.extend(others.map(|life| Actor { life, stopped: 0 }));
        story
    }

    fn instance(&self, holder: usize) -> Actor {
        Actor { life: Box::pin(actors::instance(self.world.clone(), holder, self.target.clone())), stopped: 0 }
    }

    fn run(mut self) -> Result<(), String> {
        while self.step < CHAOS {
            self.trouble();
            self.advance()?;
        }
        // Whatever was stopped wakes up, whoever has died is there again; and nobody gives commands without need.
        let mut world = self.world.borrow_mut();
        (world.calm, world.leaseless) = (true, false);
        drop(world);
        self.actors.iter_mut().for_each(|actor| actor.stopped = 0);
        for holder in 0..INSTANCES {
            self.actors[holder] = self.instance(holder);
        }
        let (claims, until) = (self.claims(), self.step + REST);
        let mut looked = None;
        // Once a new session has looked at each lane, and some more.
        while looked.is_none_or(|looked| self.step < looked + 1_000) || !self.is_at_rest() {
            if looked.is_none() && self.claims().iter().zip(claims).all(|(now, then)| *now > then) {
                looked = Some(self.step);
            }
            if self.step.is_multiple_of(1_000) {
                self.world.borrow_mut().kafka.time_out();
            }
            if self.step > until {
                return Err("I9: it does not come to rest".to_owned());
            }
            self.advance()?;
        }
        let mut world = self.world.borrow_mut();
        let world = &mut *world;
        if !world.kafka.unread && !world.at_least_once {
            world.witness.at_rest(&world.db.now, &world.kafka.told(TOPIC));
        }
        world.witness.broken.clone().map_or(Ok(()), Err)
    }

    /// How often each lane was claimed: once more when a session has looked at the facts.
    fn claims(&self) -> [i64; 2] {
        [0, 1].map(|lane| self.world.borrow().db.now.deliveries[lane].claim)
    }

    fn is_at_rest(&self) -> bool {
        // Long enough for everybody to have looked again.
        if !self.step.is_multiple_of(500) {
            return false;
        }
        let world = self.world.borrow();
        let rows = &world.db.now;
        let is_told = |lane: usize| {
            rows.deliveries[lane].position == rows.lanes[lane].next && rows.deliveries[lane].halt.is_none()
        };
        let is_sealed = rows.told.iter().zip(&rows.members).all(|(told, members)| told.members == *members);
        is_told(0) && is_told(1) && is_sealed && world.kafka.is_quiet()
    }

    /// Somebody takes a step.
    fn advance(&mut self) -> Result<(), String> {
        self.step += 1;
        let who = {
            let mut world = self.world.borrow_mut();
            world.clock.advance(Duration::from_millis(20));
            let seldom = if world.calm { 50 } else { 10 };
            if world.dice.one_in(seldom) {
                world.late_request();
            }
            world.dice.below(self.actors.len())
        };
        let actor = &mut self.actors[who];
        if actor.stopped <= self.step {
            let ended = actor.life.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(ended.is_pending(), "nobody stops by himself");
        }
        self.world.borrow().witness.broken.clone().map_or(Ok(()), Err)
    }

    /// Something goes wrong, once in a while.
    fn trouble(&mut self) {
        let mut world = self.world.borrow_mut();
        if !world.dice.one_in(40) {
            return;
        }
        let holder = world.dice.below(INSTANCES);
        let weather = self.weather;
        let which = world.dice.below(8);
        let world_again = &mut *world;
        let what = match which {
            0 if weather.deaths => "an instance dies",
            1 | 2 if weather.pauses => "an instance stops for a while",
            3 if weather.failovers => {
                match world_again.dice.one_in(3) {
                    true => {
                        world_again.db.fail_over();
                        world_again.witness.lose(world_again.db.starts);
                    }
                    false => world_again.db.crash(),
                }
                "Postgres dies"
            }
            4 | 5 if weather.failovers => {
                world_again.db.replicate();
                "the standby has caught up"
            }
            6 if weather.topics => {
                let partitions = world_again.kafka.topics.get(TOPIC).map_or(1, |topic| topic.partitions.len());
                // Where Postgres forgets as well that the stream had begun, nobody knows.
                let (topic, partitions) = match !weather.failovers && world_again.dice.one_in(3) {
                    true => (CURSORS, 1),
                    false => (TOPIC, partitions),
                };
                world_again.kafka.delete(topic);
                world_again.kafka.create(topic, partitions);
                "a topic is made anew"
            }
            7 if weather.prunes => {
                world_again.db.now.prune();
                "old runs go"
            }
            _ if world_again.dice.one_in(4) => {
                world_again.kafka.time_out();
                "open transactions time out"
            }
            _ => return,
        };
        world.tell(|| format!("{what} ({holder})"));
        let length = world.dice.below(2 * (LEASE.as_millis() / 20) as usize);
        drop(world);
        match which {
            0 => self.actors[holder] = self.instance(holder),
            1 | 2 => self.actors[holder].stopped = self.step + length,
            _ => {}
        }
    }
}
