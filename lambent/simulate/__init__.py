"""What-if runs: the scheduler that runs in production over a trace of invocations, in virtual time."""
