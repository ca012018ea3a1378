# Sourced after environment.sh: where Debian packages come from, as the host's own apt has it.
# shellcheck shell=bash

# The mirror and the transport settings (proxies, certificates, retries) are those of the host's apt.
mirror() {
    local codename
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CODENAME) $(CREATED_BY)' |
        awk -v codename="$codename" '$2 == "Debian" && $3 == codename && $4 == "Packages" { print $1; exit }'
}
transport() { apt-config dump | grep -E '^Acquire::(http|https|ftp|Retries|ForceIPv[46])[^ ]* "..*";$' || true; }
