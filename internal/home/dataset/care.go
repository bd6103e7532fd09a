package dataset

// retainedMost is how many bytes of its log a source may keep for a dataset before the dataset
// gives up its slot and is compared with the source, or built again, instead.
const retainedMost = 32 << 30

// retain is the bound of a source.
func (b *Builder) retain(source string) int64 {
	if n := b.cfg.Retain[source]; n > 0 {
		return n
	}
	return retainedMost
}
