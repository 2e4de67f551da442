-- Health of a LivepatchSet or LivepatchRollout for Argo CD. In the ConfigMap argocd-cm:
--   resource.customizations.health.livepatch.dev_LivepatchSet: |
--   resource.customizations.health.livepatch.dev_LivepatchRollout: |
-- each with this text. It says what kstatus (Helm, Flux, kubectl wait) says, and Suspended where a person has to act.

local waits_for_a_person = {AwaitingPromotion = true, Frozen = true, Paused = true, WaveEmpty = true}

local function health(status, message)
  return {status = status, message = message}
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "is being deleted")
end
if obj.status == nil or obj.status.conditions == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "the operator has not seen this version")
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local function is(type, status)
  local condition = conditions[type]
  return condition ~= nil and condition.status == status
end

local ready = conditions.Ready
if ready == nil then
  return health("Progressing", "the operator has not judged it")
end
local message = ready.reason .. ": " .. (ready.message or "")
if is("Stalled", "True") then
  return health("Degraded", message)
elseif ready.status == "True" then
  return health("Healthy", message)
elseif ready.reason == "Superseded" then
  -- History: nothing is asked of it any more.
  return health("Healthy", message)
elseif waits_for_a_person[ready.reason] then
  return health("Suspended", message)
end
return health("Progressing", message)
