//go:build race

package sighting

const raceEnabled = true
