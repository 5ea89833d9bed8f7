"""Jobs: requests that go on without their caller, kept in a store that outlives a restart."""
