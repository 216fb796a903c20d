//! What each kind of event is called where machines read it.

use super::Event;

impl Event {
    /// The event's name, as it stands in JSON under `kind`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NodeStarted { .. } => "node_started",
            Self::NodeStopping { .. } => "node_stopping",
            Self::ChildStarted { .. } => "child_started",
            Self::ChildExited { .. } => "child_exited",
            Self::ChildRestarted { .. } => "child_restarted",
            Self::ChildStartFailed { .. } => "child_start_failed",
            Self::ChildUnkillable { .. } => "child_unkillable",
            Self::HandlerStuck { .. } => "handler_stuck",
            Self::HandlerRecovered { .. } => "handler_recovered",
            Self::SupervisorGaveUp { .. } => "supervisor_gave_up",
            Self::SupervisorHalted { .. } => "supervisor_halted",
            Self::SupervisorResumed { .. } => "supervisor_resumed",
            Self::KillRequested { .. } => "kill_requested",
            Self::BreakerMoved { .. } => "breaker_moved",
            Self::PoolResized { .. } => "pool_resized",
            Self::CapacityMoved { .. } => "capacity_moved",
            Self::AffinityBound { .. } => "affinity_bound",
            Self::AffinityEnded { .. } => "affinity_ended",
            Self::SurgeStarted { .. } => "surge_started",
            Self::SurgeEnded { .. } => "surge_ended",
            Self::CordPulled { .. } => "cord_pulled",
            Self::CordReset { .. } => "cord_reset",
            Self::LineMoved { .. } => "line_moved",
            Self::SettingsChanged { .. } => "settings_changed",
            Self::SettingsRefused { .. } => "settings_refused",
            Self::LimitsChanged { .. } => "limits_changed",
            Self::SoftLimitPassed { .. } => "soft_limit_passed",
            Self::LadderMoved { .. } => "ladder_moved",
            Self::LevelMoved { .. } => "level_moved",
            Self::BurnMoved { .. } => "burn_moved",
            Self::RegressionFound { .. } => "regression_found",
            Self::RegressionOver { .. } => "regression_over",
            Self::BaselineSet { .. } => "baseline_set",
            Self::TestDecided { .. } => "test_decided",
            Self::Alerted { .. } => "alerted",
            Self::DeliveryFailed { .. } => "delivery_failed",
            Self::AlertAcknowledged { .. } => "alert_acknowledged",
            Self::AlertsSilenced { .. } => "alerts_silenced",
            Self::FollowUpsFailed { .. } => "follow_ups_failed",
            Self::SignalEnded { .. } => "signal_ended",
            Self::CardDied { .. } => "card_died",
            Self::QueueMoved { .. } => "queue_moved",
            Self::RolloutMoved { .. } => "rollout_moved",
            Self::CheckMoved { .. } => "check_moved",
            Self::HealthMoved { .. } => "health_moved",
            Self::PoolHealthMoved { .. } => "pool_health_moved",
            Self::LightChanged { .. } => "light_changed",
        }
    }
}
