"""Where the scheduler keeps how fast its workers are, by name: one table for balanced runs and for its own placement.

It is a part of the scheduler's metadata: work -> worker's name -> speed. Only ratios within one work mean anything.
"""

#: The key of the table.
METADATA = "tritoncluster-speeds"
#: The work that stands for all of them: what the scheduler learned of tasks of any kind. No function has this name.
ANY_WORK = "*"
