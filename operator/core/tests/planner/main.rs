//! The planner: case by case, and over any history of events.

mod cases;
mod settles;
mod world;
