-- Which login a job came from, in Slurm's own records: the login's name goes into the job's "extra" field unless
-- the user has filled that. Put this beside slurm.conf on the controller and say CliFilterPlugins=cli_filter/lua;
-- configless hands it to login nodes. sbatch, srun and salloc then carry it, `scontrol show job` shows it, and
-- AccountingStoreFlags=job_extra keeps it.
--
-- This runs with the user's rights: it tells what honest users did. Who asked for a token, and from which login, is
-- in sackd-shim's log.

function slurm_cli_setup_defaults(options, early_pass)
    return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, pack_offset)
    local login = os.getenv("SLURM_LOGIN_ID")
    -- Steps inside a job belong to it already.
    if login and login:match("^%x+$") and not os.getenv("SLURM_JOB_ID") then
        local extra = options["extra"]
        if extra == nil or extra == "" then
            options["extra"] = "login=" .. login
        end
    end
    return slurm.SUCCESS
end

function slurm_cli_post_submit(offset, job_id, step_id)
    return slurm.SUCCESS
end
