#!/bin/sh
# Says that it is up, answers what it is told, and ends at `enough`.
stty -echo
echo "wait: up"
while read -r word; do
    [ "$word" != enough ] || break
    echo "wait: heard $word"
done
echo "wait: end"
