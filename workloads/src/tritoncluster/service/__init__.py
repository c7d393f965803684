"""The jobs service: takes jobs, runs them in turn, and keeps what comes out, whoever goes away meanwhile.

`store` is its queue on disk, `clock` the time that it goes by, `starter` what runs: each a `run` of one of the
`programs`, in `processes` of its own. `upload` is how a job travels, `api` and `page` what is served, `client` the
other end of it. `python -m tritoncluster.service` is the service.

Who may submit a job may run any code here, as with Dask itself: jobs are told apart, they are not walled off.
"""
