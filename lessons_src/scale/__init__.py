"""The second floor: what a training needs that outgrows one process or one sitting."""
