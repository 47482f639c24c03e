#!/bin/bash
# What shells do: arithmetic, arrays, patterns, substitution, pipes, jobs, signals.
fibonacci() { if (($1 < 2)); then echo "$1"; else echo $(($(fibonacci $(($1 - 1))) + $(fibonacci $(($1 - 2))))); fi; }
echo "fibonacci $(fibonacci 8)"
echo $((0x7fffffffffffffff + 1)) $((-7 / 2)) $((-7 % 2)) $((1 << 40)) $((3 ** 39))
declare -A count=()
for word in one two two three three three; do count[$word]=$((${count[$word]:-0} + 1)); done
for word in one two three; do printf '%s=%d ' "$word" "${count[$word]}"; done; echo
text=the_quick_brown_fox
echo "${text//_/ }" "${text^^}" "${#text}" "${text%%_*}" "${text: -3}"
[[ 2025-01-31 =~ ^([0-9]+)-([0-9]+)-([0-9]+)$ ]] && echo "${BASH_REMATCH[3]}.${BASH_REMATCH[2]}.${BASH_REMATCH[1]}"
printf '%08.3f %x %o %e\n' 3.14159 255 8 12345.678
for i in {1..20}; do (exit "$i") & pids+=($!); done
sum=0
for pid in "${pids[@]}"; do wait "$pid"; sum=$((sum + $?)); done
echo "exits $sum"
(trap 'echo caught; kill $!; exit 3' USR1; sleep 100 & kill -USR1 $BASHPID; wait)
echo "trap $?"
seq 1 2000 | while read -r n; do echo $((n * n)); done | tail -n 1
diff <(seq 5) <(seq 1 2 5) || echo "different: $?"
