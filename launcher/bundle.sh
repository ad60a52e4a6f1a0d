#!/bin/sh
# Packs the program, its libraries and Open MPI into one folder. It runs from any place, without an
# installation, on x86-64 machines whose C library is at least as new as this one's (Debian 12: glibc 2.36).
#   launcher/bundle.sh OUT_DIR [PROGRAM [MORE_PROGRAMS...]]
# Of the machine it takes the C library and, on GPUs, the driver, CUDA 13's cuBLASLt, NCCL and cuDNN. Open MPI
# comes without its plug-ins for InfiniBand, which Debian switches off anyway and which fit one driver only.
# Needs patchelf.
set -eu
[ $# -ge 1 ] || { sed -n 's/^#   \(launcher.*\)/usage: \1/p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
out=$1
shift
[ $# -gt 0 ] || set -- "$here/build/release/bin/cairn"
die() { echo "cairn: $*" >&2; exit "${status:-3}"; }
status=2
for program; do [ -x "$program" ] || die "$program is not there: build it first"; done
command -v patchelf >/dev/null || die "patchelf is missing (Debian package patchelf)"
command -v orted >/dev/null || die "Open MPI is missing (launcher/install_dependencies.sh)"
[ ! -e "$out" ] || die "$out exists"
status=3

# Where Open MPI and its PMIx have their files.
ompi_path() { ompi_info --parsable --path "$1" | sed "s/^path:$1://"; }
prefix=$(ompi_path prefix)
plugins=$(ompi_path pkglibdir)
help_texts=$(ompi_path pkgdatadir)
settings=$(ompi_path sysconfdir)
pmix=$(dirname "$(dirname "$(readlink -f "$(ldd "$plugins/mca_pmix_ext3x.so" | awk '$1 ~ /^libpmix/ { print $3 }')")")")

mkdir -p "$out/bin" "$out/lib" "$out/share/cairn/launcher" "$out/openmpi/bin" \
  "$out/openmpi/libexec"
out=$(cd "$out" && pwd)
mpi=$out/openmpi
cp "$1" "$out/bin/cairn"
shift
for program; do cp "$program" "$out/bin/"; done
cp -R "$here/configs" "$out/share/cairn/"
cp "$here/launcher/prepare_data.sh" "$out/share/cairn/launcher/"
for name in mpirun orted; do cp "$(readlink -f "$(command -v $name)")" "$mpi/libexec/$name"; done
cp -R "$settings" "$mpi/etc"
# Without ssh and rsh Open MPI refuses to start even on one host; with a third choice it does not.
printf '\nplm_rsh_agent = ssh : rsh : /bin/false\n' >>"$mpi/etc/openmpi-mca-params.conf"
mkdir -p "$mpi${help_texts#"$prefix"}" "$mpi${plugins#"$prefix"}" "$mpi/pmix/lib"
cp "$help_texts"/*.txt "$mpi${help_texts#"$prefix"}/"
cp -R "$pmix/share" "$mpi/pmix/share"
cp -R "$pmix/lib/pmix" "$mpi/pmix/lib/pmix"
fabrics='lib(ucp|uct|ucs|fabric|ibverbs|rdmacm|psm_infinipath|psm2|oshmem)\.so'
for plugin in "$plugins"/mca_*.so; do
  ldd "$plugin" | grep -qE "$fabrics" || cp "$plugin" "$mpi${plugins#"$prefix"}/"
done

# Every library that one of these asks for, but the C library's and NVIDIA's.
elf_files() { find "$out" -type f \( -perm -u+x -o -name '*.so*' \) -exec sh -c 'head -c 4 "$1" | grep -q ELF' _ {} \; -print; }
system='^(ld-linux.*|lib(c|m|pthread|dl|rt|resolv|util|anl|nsl|nss_.*)|lib(cuda|cudart|cublas|cublasLt|cudnn.*|nccl|nv.*))\.so'
elf_files | xargs ldd | awk '/not found/ { exit 1 } $2 == "=>" { print $1, $3 }' >"$out/libraries" ||
  die "a library is not found: $(elf_files | xargs ldd | grep -m 1 'not found')"
sort -u "$out/libraries" | grep -vE "$system" | while read -r name path; do
  cp -L "$path" "$out/lib/$name"
  real=$(readlink -f "$path")
  package=$({ dpkg-query -S "$real" || dpkg-query -S "${real#/usr}"; } 2>/dev/null | sed 's/:.*//' | head -n 1)
  if [ -n "$package" ] && [ -e "/usr/share/doc/$package/copyright" ]; then
    mkdir -p "$out/share/doc/$package"
    cp -L "/usr/share/doc/$package/copyright" "$out/share/doc/$package/"
  fi
done
rm "$out/libraries"
mkdir -p "$out/share/doc/openmpi-bin"
cp -L /usr/share/doc/openmpi-bin/copyright "$out/share/doc/openmpi-bin/"

# Libraries are looked for relative to what asks for them; so nothing that a run starts (ssh, srun) meets
# those of this folder.
elf_files | while read -r file; do
  up=$(realpath --relative-to="$(dirname "$file")" "$out/lib")
  more=""
  case $file in "$out"/bin/*) more=":/usr/local/cuda/lib64" ;; esac
  patchelf --set-rpath "\$ORIGIN/$up$more" "$file"
done

# Open MPI's programs are told where its files are, as the program tells itself (launcher/program.h).
# wrapper FILE OPEN_MPI_FROM_ITS_FOLDER COMMAND
wrapper() {
  cat >"$1" <<END
#!/bin/sh
mpi=\$(cd "\$(dirname "\$(readlink -f "\$0")")/$2" && pwd)
export OPAL_PREFIX="\$mpi" OPAL_SYSCONFDIR="\$mpi/etc"
export PMIX_LIBDIR="\$mpi/pmix/lib" PMIX_DATAROOTDIR="\$mpi/pmix/share"
exec "\$mpi/libexec/$3 "\$@"
END
  chmod 755 "$1"
}
wrapper "$out/bin/mpirun" ../openmpi 'mpirun" --prefix "$mpi"'
wrapper "$mpi/bin/orted" .. 'orted"'
echo "$out: $(du -sm "$out" | cut -f1) MiB; $out/bin/cairn, $out/bin/mpirun"
