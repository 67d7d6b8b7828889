"""What failures cost, on virtual time: a discrete-event simulation of training runs at any scale.

    scenario.py    what is simulated: cluster, job, failures, costs, policy (the YAML of configs/sim)
    engine/        clock, ledger and the simulated job
    failures/      what fails and when: distributions, causes, streams, fault schedules
    costs/         what each act costs, with unit and source; calibration from live traces
    policies/      what a system does about a loss; one small class each
    experiments/   many runs: Monte Carlo, the vectorised path, comparison, planning, prediction of live runs
    schedules/     traces of others in, fault schedules out
    reports/       figures and the HTML page
    cli.py         the commands

The simulator knows `ft_horovod.core` and nothing else of the project.
"""
