"""What a SLURM of one node for tests is told: its files, to be formatted with ports and folders (`node.py`)."""

SLURM_CONF = """\
ClusterName=crossseed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
# A job over its memory is killed, as control groups do it on a cluster.
JobAcctGatherParams=OverMemoryKill
{accounting}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0
# The node is what is written here, on however small a machine.
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
MinJobAge=3600
KillWait=5
# On a machine that has much else to do; the node would be drained.
UnkillableStepTimeout=600
PlugStackConfig=/dev/null
DefMemPerCPU=1000
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=3 Boards=1 SocketsPerBoard=1 CoresPerSocket=3 \
ThreadsPerCore=1 RealMemory=20000 Gres=gpu:1 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=2-00:00:00 State=UP
"""
NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none"
WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage_port}
StorageUser=slurm
StoragePass=of-a-test
"""
STORAGE_SQL = """\
CREATE USER slurm@127.0.0.1 IDENTIFIED BY 'of-a-test';
GRANT ALL ON *.* TO slurm@127.0.0.1;
"""
# A GPU that is none; without a file the node would be invalid.
GRES_CONF = "NodeName={host} Name=gpu File=/dev/null\n"
