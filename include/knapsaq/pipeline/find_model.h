#pragma once

#include <filesystem>

namespace knapsaq {

/// Where a model is: `name` itself where such a file or folder exists, else the snapshot of a repository in
/// the local Hugging Face cache: "organisation/name", or "organisation/name@revision" for a branch, a tag or
/// a commit. The cache is $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or
/// ~/.cache/huggingface/hub, as huggingface_hub looks for it. Nothing is fetched: a repository that is not
/// there is InputError, which says how to fetch it. Other names are returned as they are: opening them says
/// what is wrong.
std::filesystem::path find_model(const std::filesystem::path& name);

}  // namespace knapsaq
