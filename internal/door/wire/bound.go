package wire

// Bound returns how many payload bytes a message of a type may have in a direction; known is
// false for a type that the direction does not know. It is what a Framer checks, for those
// who cut messages by themselves.
func (l Limits) Bound(d Direction, typ byte) (most int, known bool) {
	switch classOf(d, typ) {
	case empty:
		return 0, true
	case small:
		if l.Small <= 0 {
			return DefaultSmall, true
		}
		return l.Small, true
	case large:
		if l.Message <= 0 {
			return DefaultMessage, true
		}
		return l.Message, true
	}
	return 0, false
}
