"""Jobs and CronJobs in, pods and Jobs out. Imported by the controllers' manager."""
