-- Holds the jobs that opted in to Quartermaster until their plan is made. Copy it to job_submit.lua beside slurm.conf, and set
-- JobSubmitPlugins=lua. It calls no network and no command: a job is submitted as fast as without it. What it holds is released
-- by `quartermaster slurm run --mode enforce`, and by its watchdog when no plan comes.

local WORD = "quartermaster" -- jobs whose --comment has this word
local PARTITIONS = {} -- and those of these partitions, as in { gpu = true }
local HOLDS = "quartermaster holds: until its plan is made" -- the plugin knows by these words that the hold is its own to end

local function listed(text, word)
    for part in string.gmatch(text or "", "[^%s,]+") do
        if part == word then
            return true
        end
    end
    return false
end

local function default_of(partitions)
    for name, partition in pairs(partitions) do
        if partition.flag_default == 1 then
            return name
        end
    end
end

local function opted_in(job, partitions)
    if listed(job.comment, WORD) then
        return true
    end
    for partition in pairs(PARTITIONS) do
        if listed(job.partition or default_of(partitions), partition) then
            return true
        end
    end
    return false
end

function slurm_job_submit(job, partitions, submit_uid)
    if opted_in(job, partitions) and job.priority ~= 0 then -- 0: its user holds it (--hold), and releases it
        job.priority = 0
        job.admin_comment = HOLDS
    end
    return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, modify_uid)
    return slurm.SUCCESS
end

return slurm.SUCCESS
