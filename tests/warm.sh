# Read by the shell of each job (BASH_ENV): its verb is asked of the server of warm.py.
python() {
    if [ "$1" = -m ] && [ "$2" = crossseed ]; then
        shift 2
        "$WARM_PYTHON" -S -E "$WARM_CLIENT" "$@"
    else
        command python "$@"
    fi
}
