//go:build race

package explain

// raceDetector: sync.Pool forgets on purpose.
const raceDetector = true
