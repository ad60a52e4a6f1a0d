# Sourced by scripts that start ranks on one machine: more ranks than cores is the normal case there,
# so a rank that waits gives its core away; and Open MPI asks root to say twice that it is meant.
export OMPI_MCA_mpi_yield_when_idle=1
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
