//go:build race

package model

// raceDetector: sync.Pool forgets on purpose.
const raceDetector = true
