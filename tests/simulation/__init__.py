"""The deterministic simulator: whole servers of kvraft under virtual time, a hostile network and a crashing disk.

One integer, the seed, decides everything; a run with the same seed has the same trace hash. How it fits together:

- `streams`: a separate random stream per (seed, server, purpose), so that removing one fault does not move the others.
- `options`: the knobs that a seed draws (swarm testing); `faults`: its schedule of faults, as data.
- `scheduler`: virtual time; `network`: directed links; `sessions`: who can dial whom, two lanes, bandwidth.
- `disk`: what survives a crash, as records; `sectors`: the same down to the sectors, below the product's own storage.
- `machine`: the applied state behind one interface; `loop_held`: a loop that waits for a sync.
- `member`: joins a real core, the machine and the disk.
- `nemesis` and `disk_nemesis` carry the schedule out; `workload` plays the clients; `checkers` and `history` judge
  while it runs, `accounts` who may write; `ledger` counts the rare states that it went through.
- `world` runs one seed: a safety phase under faults, then a liveness phase that must converge; `campaign` runs many.
- `cuts`: every directed partition of small clusters; `kills`: deaths of leaders.
- `mutants`: planted bugs that the checkers must find.

`python -m tests.simulation run --seeds 100 --master-seed 1`, `python -m tests.simulation replay SEED`,
`python -m tests.simulation.mutants`.
"""
